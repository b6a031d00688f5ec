"""The page's process on its socket, in front of a real control plane: what it forwards, signs and refuses."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import anyio
import httpx2
import pytest

from nixfleet_proto.codec.approval import decode_approval
from nixfleet_ui.app import BODY_BYTES_MAX, HEADERS
from tests.support.served_control_plane import READER_KEY, Site, site_with
from tests.ui.served_page import PageCaller, Unreachable, page_before, page_for

pytestmark = pytest.mark.anyio
PAUSE = b'{"reason":"the database is moved"}'


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force."""
    async with site_with(tmp_path) as made:
        await made.publish()
        yield made


@pytest.fixture
async def page(site: Site) -> AsyncIterator[PageCaller]:
    """The page of alice, who may operate."""
    async with page_for(site) as caller:
        yield caller


async def test_a_call_is_signed_and_forwarded_with_its_query(page: PageCaller) -> None:
    """The answer is the control plane's."""
    answer = await page.ask("GET", "/v1/log?after=0&limit=2")
    assert answer.status_code == 200
    assert answer.json()["head"] > 0


async def test_a_command_is_carried_out_in_the_operators_name(site: Site, page: PageCaller) -> None:
    """It is in the log with who gave it and why."""
    answer = await page.ask("POST", "/v1/channels/stable/pause", PAUSE)
    assert answer.status_code == 204, answer.text

    rows = (await site.operate("GET", "/v1/log?after=0")).json()["events"]
    (row,) = [it for it in rows if it["kind"] == "operator_command"]
    assert row["actor"] == "alice"
    assert "the database is moved" in row["text"]


async def test_what_the_control_plane_refuses_is_handed_on(page: PageCaller) -> None:
    """With its status and its problem."""
    answer = await page.ask("POST", "/v1/rollouts/stable@nope/pause", PAUSE)
    assert answer.status_code == 409
    assert answer.json()["type"].startswith("urn:nixfleet:problem:")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"host": "attacker.example"}, 421),
        ({"origin": "https://attacker.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_mode": "navigate"}, 403),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"x_nixfleet_ui_token": None}, 401),
        ({"x_nixfleet_ui_token": "A" * 43}, 401),
    ],
)
async def test_a_request_of_another_page_changes_nothing(
    site: Site, page: PageCaller, changed: dict[str, str | None], status: int
) -> None:
    """A rebound name, a foreign page, a form, no secret or another one: refused before it is signed."""
    before = (await site.operate("GET", "/v1/log?after=0")).json()["head"]
    answer = await page.ask("POST", "/v1/channels/stable/pause", PAUSE, **changed)
    assert answer.status_code == status
    assert (await site.operate("GET", "/v1/log?after=0")).json()["head"] == before


async def test_two_hosts_are_refused_by_the_http_library(page: PageCaller) -> None:
    """The right one first, and another: the request reaches neither a file nor a call."""
    admission = page.served.admission
    port = int(admission.host.rpartition(":")[2])
    request = f"GET / HTTP/1.1\r\nHost: {admission.host}\r\nHost: example.org\r\n\r\n"
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(request.encode())
        assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")


async def test_a_preflight_is_given_no_permission(page: PageCaller) -> None:
    """No answer lets another origin read it or send headers of its own."""
    answer = await page.ask(
        "OPTIONS", "/v1/hosts", origin="https://attacker.example", sec_fetch_site="cross-site"
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/main.js", "/nope", "/v1/hosts", "/v1/nope", "/local/nope"])
async def test_every_answer_keeps_the_page_to_itself(page: PageCaller, path: str) -> None:
    """Files, answers and refusals: no frame, no inline script, no guess of a type, no cookie, nothing stored."""
    answer = await page.ask("GET", path, sec_fetch_dest=None)
    assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/../serving.py",
        "/%2e%2e/serving.py",
        "/..%2fserving.py",
        "//etc/passwd",
        "/vendor/../../app.py",
        "/page/index.html",
        "/types/api.d.ts",
        "/main.js/",
        "/main.js%00.css",
    ],
)
async def test_no_path_leads_to_another_file(page: PageCaller, path: str) -> None:
    """Only names of files of the page are known; a path is never looked up on the disk."""
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", page.served.admission.port) as stream:
            host = page.served.admission.host
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await stream.receive()).startswith(b"HTTP/1.1 404")


async def test_a_page_that_only_shows_sends_no_command_and_signs_nothing(site: Site) -> None:
    """It reads all the same."""
    async with page_for(site, read_only=True) as page:
        for path in ("/v1/channels/stable/pause", "/local/approval", "/local/sign"):
            answer = await page.ask("POST", path, PAUSE)
            assert answer.status_code == 403
            assert answer.json()["type"] == "urn:nixfleet:problem:ui-read-only"
        assert (await page.ask("GET", "/v1/hosts")).status_code == 200
        assert (await page.ask("GET", "/local/session")).json()["isReadOnly"] is True


async def test_an_operator_who_may_only_read_is_refused_by_the_control_plane(site: Site) -> None:
    """The page's process has no rights of its own."""
    async with page_for(site, name="bob", key=READER_KEY) as page:
        assert (await page.ask("GET", "/v1/hosts")).status_code == 200
        answer = await page.ask("POST", "/v1/channels/stable/pause", PAUSE)
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:nixfleet:problem:role"


async def test_a_statement_is_signed_as_it_was_shown(site: Site, page: PageCaller) -> None:
    """The text comes back byte for byte, and the control plane verifies the signature: it knows no such guard here."""
    wanted = {
        "rolloutId": "stable@r1",
        "wave": 0,
        "manifestHash": "00" * 32,
        "decision": "approve",
        "reason": "seen on the canary",
    }
    shown = (await page.ask("POST", "/local/approval", json.dumps(wanted).encode())).json()
    statement = decode_approval(shown["text"].encode())
    assert (statement.operator, statement.reason) == ("alice", "seen on the canary")

    sent = {"kind": shown["kind"], "text": shown["text"]}
    answer = await page.ask("POST", "/local/sign", json.dumps(sent).encode())
    direct = await site.operate("POST", "/v1/rollouts/stable@r1/approvals", b"{}")
    assert direct.status_code == 422
    assert answer.status_code not in (401, 403, 422), answer.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"operator":"alice"', '"operator":"bob"'),
        ('"decision":"approve"', '"decision": "approve"'),
        ('"signedAt":"20', '"signedAt":"19'),
        ('"wave":0', '"wave":0,"wave":1'),
    ],
)
async def test_a_statement_that_was_not_shown_is_not_signed(
    page: PageCaller, before: str, after: str
) -> None:
    """Another operator's, one with other bytes, one of another time, one that says two things."""
    wanted = {
        "rolloutId": "stable@r1",
        "wave": 0,
        "manifestHash": "00" * 32,
        "decision": "approve",
        "reason": "x",
    }
    shown = (await page.ask("POST", "/local/approval", json.dumps(wanted).encode())).json()
    assert before in shown["text"]
    sent = {"kind": "approval", "text": shown["text"].replace(before, after)}
    answer = await page.ask("POST", "/local/sign", json.dumps(sent).encode())
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:nixfleet:problem:ui-statement"


async def test_an_order_to_hosts_is_signed_and_relayed(page: PageCaller) -> None:
    """A warrant has an id of its own, and expires."""
    wanted = {
        "rolloutId": "stable@r1",
        "rule": "prior",
        "reason": "it eats disks",
        "expiresMinutes": 5,
    }
    shown = (await page.ask("POST", "/local/warrant", json.dumps(wanted).encode())).json()
    assert shown["path"] == "/v1/rollouts/stable@r1/warrants"
    assert len(json.loads(shown["text"])["orderId"]) == 32
    sent = {"kind": "warrant", "text": shown["text"]}
    answer = await page.ask("POST", "/local/sign", json.dumps(sent).encode())
    # The release does not let operators recall: the signature was good, the policy says no.
    assert answer.status_code == 409, answer.text


async def test_a_control_plane_that_does_not_answer_is_said_to_be_away() -> None:
    """The page goes on, and says so."""
    async with page_before(Unreachable()) as page:
        answer = await page.ask("GET", "/v1/hosts")
        assert answer.status_code == 502
        assert "connection refused" in answer.json()["detail"]
        assert (await page.ask("GET", "/", sec_fetch_dest=None)).status_code == 200


class _Waiting:
    """A control plane that never answers, and says when it is asked and when the one who asks is gone."""

    def __init__(self) -> None:
        self.asked, self.left = anyio.Event(), anyio.Event()

    async def send(
        self, method: str, path: str, body: bytes = b"", *, answer_seconds_max: float
    ) -> httpx2.Response:
        self.asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.left.set()
        raise AssertionError


async def test_a_tab_that_is_closed_ends_its_call() -> None:
    """Else each reload would hold one of the readers that the control plane gives an operator."""
    upstream = _Waiting()
    async with page_before(upstream) as page:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(page.ask, "GET", "/v1/log?after=0&wait=20")
                await upstream.asked.wait()
                tasks.cancel_scope.cancel()
            await upstream.left.wait()


async def test_a_browser_that_goes_away_within_its_body_is_no_error(
    page: PageCaller, caplog: pytest.LogCaptureFixture
) -> None:
    """A tab is closed at any moment; a traceback would look like a fault."""
    head = "".join(f"{name}: {value}\r\n" for name, value in page.own_headers.items())
    begun = f"POST /v1/channels/stable/pause HTTP/1.1\r\n{head}Content-Length: 50\r\n\r\n{{"
    async with await anyio.connect_tcp("127.0.0.1", page.served.admission.port) as stream:
        await stream.send(begun.encode())
        await page.ask("GET", "/local/session")
    with anyio.fail_after(5):
        assert (await page.ask("GET", "/local/session")).status_code == 200
    assert not [it for it in caplog.records if it.exc_info]


async def test_a_body_that_is_too_long_is_not_kept(page: PageCaller) -> None:
    """It is refused as it comes."""
    answer = await page.ask("POST", "/v1/channels/stable/pause", b"x" * (BODY_BYTES_MAX + 1))
    assert answer.status_code == 413


async def test_names_keep_their_spelling_on_the_way(site: Site, page: PageCaller) -> None:
    """A slash in a name stays a part of it."""
    path = f"/v1/rollouts/{quote('stable@feature/x', safe='@')}/pause"
    answer = await page.ask("POST", path, PAUSE)
    assert answer.status_code == 409
    assert "feature/x" in answer.text


async def test_the_redirect_file_is_the_operators_alone(page: PageCaller) -> None:
    """It has the secret in a fragment, which no request carries."""
    file = page.served.file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert f"/#{page.served.admission.token}" in file.read_text()
