"""What a client may cost: size, time and number, over a bare socket to a real server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import orjson
import pytest
from starlette.responses import PlainTextResponse

from nixfleet_control_plane.http.answers import Refusal
from nixfleet_control_plane.http.server.connection import EXCESS_ANSWERED_MAX
from nixfleet_control_plane.http.server.limits import BURST_SECONDS, HostRates, Limits
from nixfleet_proto.agent_event import ActivationStarted
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import TransportFailed
from tests.support.served_control_plane import (
    CLOCK,
    KEY,
    OTHER_KEY,
    Site,
    served,
    signed,
    site_with,
)

pytestmark = pytest.mark.anyio

SHORT = 0.3
"""A limit in seconds that tests wait for. Whoever is quicker is not hurt by it: that is what the others show."""
HEAD = b"GET /healthz HTTP/1.1\r\nHost: h\r\n"


@asynccontextmanager
async def strict_site(directory: Path, **limits: float) -> AsyncIterator[Site]:
    bounds = {"header_bytes_max": 4096, "header_seconds_max": SHORT, "body_seconds_max": SHORT}
    async with site_with(directory, Limits(**{**bounds, **limits})) as site:  # type: ignore[arg-type]
        yield site


def problem_in(answer: bytes) -> tuple[int, str]:
    """The status and the problem's type of the last answer in what was heard."""
    *_, last = answer.split(b"HTTP/1.1 ")
    head, _, body = last.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), head
    return int(head[:3]), orjson.loads(body)["type"].removeprefix("urn:nixfleet:problem:")


# Heads.


async def test_a_head_that_trickles_is_given_up_when_its_time_is_over(tmp_path: Path) -> None:
    """A header now and then keeps nobody: 408, and the connection is closed."""
    async with strict_site(tmp_path) as site:
        answer = await site.say(HEAD, *[b"X-A: b\r\n"] * 20, pause_seconds=0.05)
        assert problem_in(answer) == (408, "too-slow")


async def test_a_connection_that_says_nothing_is_closed(tmp_path: Path) -> None:
    """Without a word, since nothing was asked."""
    async with strict_site(tmp_path) as site:
        assert await site.say() == b""


async def test_blank_lines_are_no_sign_of_life(tmp_path: Path) -> None:
    """After an answer, bytes that begin no request keep the connection no longer than a head may take."""
    async with strict_site(tmp_path, keep_alive_seconds=60) as site:
        answer = await site.say(HEAD + b"\r\n", *[b"\r\n"] * 20, pause_seconds=0.05)
        assert answer.count(b"200 OK") == 1


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X-A: " + b"a" * 5000 + b"\r\n\r\n",
        HEAD + b"X-A: b\r\n" * 1000 + b"\r\n",
        b"GET /healthz?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
    ids=["one large header", "many small headers", "a large query"],
)
async def test_a_head_that_is_too_large_is_refused(head: bytes, tmp_path: Path) -> None:
    """431 names the limit, and the connection is closed."""
    async with strict_site(tmp_path) as site:
        assert problem_in(await site.say(head)) == (431, "too-large-head")


async def test_a_head_without_an_end_is_cut_off_long_before_its_time_is_over(
    tmp_path: Path,
) -> None:
    """What grows and grows is refused as soon as it is too large."""
    async with strict_site(tmp_path, header_seconds_max=60) as site:
        chunks = [b"X-A: ", *[b"a" * 4096] * 50]
        answer = await site.say(HEAD, *chunks, pause_seconds=0.001)
        assert problem_in(answer) == (431, "too-large-head")


# Bodies.


def post_of(length: int) -> bytes:
    return b"POST /v1/agent/events HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length


def signed_post(body: bytes, length: str) -> bytes:
    """The head of a good request with `body`; length: the header that says where it ends."""
    lines = [f"{name}: {value}" for name, value in signed("POST", "/v1/agent/events", body).items()]
    head = ["POST /v1/agent/events HTTP/1.1", "Host: h", length, *lines, "", ""]
    return "\r\n".join(head).encode()


async def test_a_body_that_trickles_is_given_up_when_its_time_is_over(tmp_path: Path) -> None:
    """However many bytes came meanwhile: 408."""
    async with strict_site(tmp_path) as site:
        head = signed_post(b"{" * 1000, "Content-Length: 1000")
        answer = await site.say(head, *[b"{"] * 20, pause_seconds=0.05)
        assert problem_in(answer) == (408, "too-slow")


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(tmp_path: Path) -> None:
    """413 comes at once, before a byte of it."""
    async with strict_site(tmp_path, body_seconds_max=60) as site, AsyncExitStack() as stack:
        stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", site.port))
        await stream.send(post_of(10**15))
        with anyio.fail_after(5):
            assert problem_in(await stream.receive()) == (413, "too-large")


async def test_a_body_in_chunks_is_refused_before_it_comes(tmp_path: Path) -> None:
    """In chunks of one byte it would cost a thousand times as much as in one piece."""
    head = signed_post(b"x" * 0x400 * 10, "Transfer-Encoding: chunked")
    async with strict_site(tmp_path, body_seconds_max=60) as site, AsyncExitStack() as stack:
        stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", site.port))
        await stream.send(head)
        with anyio.fail_after(5):
            assert problem_in(await stream.receive()) == (411, "length-required")


async def test_a_body_that_nobody_reads_does_not_keep_its_connection(tmp_path: Path) -> None:
    """The answer came long ago; the rest of the request may not take for ever."""
    head = b"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
    async with strict_site(tmp_path) as site:
        answer = await site.say(head, *[b"x"] * 60, pause_seconds=0.05)
        assert answer.startswith(b"HTTP/1.1 405")
        assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
    ids=lambda headers: ", ".join(headers.values()),
)
async def test_content_of_another_kind_is_refused(headers: dict[str, str], tmp_path: Path) -> None:
    """415, whoever signed it."""
    async with strict_site(tmp_path) as site:
        path = "/v1/agent/events"
        answer = await site.ask("POST", path, b"{}", {**signed("POST", path, b"{}"), **headers})
        assert problem_in(
            b"HTTP/1.1 %d\r\ncontent-type: %b\r\n\r\n%b"
            % (answer.status_code, answer.headers["content-type"].encode(), answer.content)
        ) == (415, "unsupported-content")


async def test_a_body_is_not_taken_before_its_signature_was_verified(tmp_path: Path) -> None:
    """401 comes for the head alone, and the connection ends with it, whatever of the body is still to come."""
    async with strict_site(tmp_path, body_seconds_max=60) as site:
        answer = await site.say(post_of(1024 * 1024))
        assert problem_in(answer) == (401, "not-signed")
        assert b"\r\nconnection: close\r\n" in answer


async def test_a_client_that_still_sends_reads_the_answer(tmp_path: Path) -> None:
    """Nothing more is read of what it sends, and it has time to read why."""
    body = b"x" * 1024 * 1024
    async with strict_site(tmp_path) as site:
        answer = await site.say(post_of(len(body)), body)
        assert problem_in(answer) == (401, "not-signed")


async def test_a_signature_is_good_for_one_body(tmp_path: Path) -> None:
    """Of two requests with one signature, neither of which has its body yet, one is refused as a replay."""
    head = signed_post(b"x" * 1000, "Content-Length: 1000")
    answers: list[bytes] = []

    async def hear(stream: anyio.abc.SocketStream, done: anyio.CancelScope) -> None:
        answers.append(await stream.receive())
        done.cancel()

    async with strict_site(tmp_path, body_seconds_max=60) as site, AsyncExitStack() as stack:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    stream = await stack.enter_async_context(
                        await anyio.connect_tcp("127.0.0.1", site.port)
                    )
                    await stream.send(head)
                    tasks.start_soon(hear, stream, tasks.cancel_scope)
    assert [problem_in(answer) for answer in answers] == [(401, "replayed-nonce")]


async def test_a_call_that_takes_no_body_is_sent_none(tmp_path: Path) -> None:
    """A body that nobody asked for is not waited for."""
    async with strict_site(tmp_path) as site:
        head = b"GET /v1/agent/dispatch HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
        assert problem_in(await site.say(head)) == (413, "too-large")


async def test_more_bodies_than_may_be_held_are_refused(tmp_path: Path) -> None:
    """503 for whose body there is no room; there is room again as soon as one is answered or given up."""
    path, body = "/v1/agent/events", b"x" * 4000
    head = signed_post(body, "Content-Length: 4000")
    async with strict_site(tmp_path, bodies_bytes_max=6000, body_seconds_max=60) as site:
        async with await anyio.connect_tcp("127.0.0.1", site.port) as first:
            await first.send(head + body[:-1])
            with anyio.fail_after(5):
                while (
                    answer := await site.ask("POST", path, body, signed("POST", path, body))
                ).status_code != 503:
                    assert answer.status_code == 422
            assert answer.headers["retry-after"] == "1"
        with anyio.fail_after(5):
            while (
                answer := await site.ask("POST", path, body, signed("POST", path, body))
            ).status_code != 422:
                assert answer.status_code == 503


# Connections.


async def test_more_connections_than_may_be_open_are_told_to_come_again(tmp_path: Path) -> None:
    """503 with Retry-After; whoever was there before is not disturbed, and a place that is free is given away."""
    async with strict_site(tmp_path, connections_max=2, header_seconds_max=60) as site:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", site.port))
                for _ in range(2)
            ]
            answer = await site.say(HEAD + b"\r\n")
            assert problem_in(answer) == (503, "unavailable")
            assert b"retry-after: 5" in answer.lower()
            await streams[0].send(HEAD + b"\r\n")
            assert (await streams[0].receive()).startswith(b"HTTP/1.1 200")
        with anyio.fail_after(5):
            while not (await site.say(HEAD + b"Connection: close\r\n\r\n")).startswith(
                b"HTTP/1.1 200"
            ):
                await anyio.lowlevel.checkpoint()


async def test_a_flood_of_connections_is_closed_without_a_word(tmp_path: Path) -> None:
    """Those who are told are few, so that telling cannot be what fills the machine."""
    async with (
        strict_site(tmp_path, connections_max=1, header_seconds_max=60) as site,
        AsyncExitStack() as stack,
    ):
        for _ in range(1 + EXCESS_ANSWERED_MAX):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", site.port))
        assert await site.say(HEAD + b"\r\n") == b""


async def test_a_client_that_takes_no_answer_is_cut_off() -> None:
    """More was written than a network holds, and nobody takes it: the connection ends."""
    limits = Limits(answer_seconds_max=SHORT, header_seconds_max=60)
    async with (
        served(PlainTextResponse(b"x" * 2**24), limits) as port,
        await anyio.connect_tcp("127.0.0.1", port) as deaf,
    ):
        await deaf.send(HEAD + b"\r\n")
        with anyio.fail_after(10), suppress(anyio.BrokenResourceError):
            while True:
                await deaf.send(b"\r\n")
                await anyio.sleep(SHORT / 10)


async def test_requests_that_are_sent_ahead_without_end_are_cut_off(tmp_path: Path) -> None:
    """Those who wait behind another are few."""
    async with strict_site(tmp_path) as site:
        assert (await site.say((HEAD + b"\r\n") * 1000)).count(b"HTTP/1.1") < 1000


async def test_a_poll_whose_client_is_gone_does_not_count(tmp_path: Path) -> None:
    """The next one is let in at once."""
    path = "/v1/agent/dispatch?wait=60"
    async with strict_site(tmp_path, pollers_per_host_max=1) as site:
        for _ in range(5):
            lines = "".join(f"{name}: {value}\r\n" for name, value in signed("GET", path).items())
            async with await anyio.connect_tcp("127.0.0.1", site.port) as stream:
                await stream.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode())
                await polls(site, 1)
            await polls(site, 0)


async def polls(site: Site, count: int) -> None:
    """Wait until so many polls are counted."""
    with anyio.fail_after(5):
        while f"nixfleet_dispatch_polls {count}.0" not in (await site.ask("GET", "/metrics")).text:
            await anyio.lowlevel.checkpoint()


# Methods, paths, and what is no HTTP.


async def test_a_method_that_a_path_does_not_have_is_named_with_those_that_it_has(
    tmp_path: Path,
) -> None:
    """405 with Allow; OPTIONS asks for just that, and HEAD is GET without a body."""
    async with strict_site(tmp_path) as site:
        refused = await site.ask("DELETE", "/healthz")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        asked = await site.ask("OPTIONS", "/v1/agent/events")
        assert (asked.status_code, asked.headers["allow"]) == (204, "OPTIONS, POST")
        head = await site.ask("HEAD", "/healthz")
        assert (head.status_code, head.content) == (200, b"")


async def test_a_path_that_is_not_there_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """Neither a slash too many nor another spelling leads anywhere."""
    async with strict_site(tmp_path) as site:
        for path in (
            "/",
            "/v2",
            "/healthz/",
            "//healthz",
            "/%68ealthz",
            "/v1/../healthz",
            "/v1/hosts/",
        ):
            answer = await site.say(
                f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
            )
            assert problem_in(answer)[0] == 404, path


async def test_a_name_with_a_slash_in_it_is_one_name(tmp_path: Path) -> None:
    """A channel may point at `feature/x`: its rollout is found, by hosts and by operators."""
    async with strict_site(tmp_path) as site:
        rollout_id = await site.publish("feature/x")
        async with site.agent() as agent:
            assert await agent.fetch_manifest(rollout_id) is not None
        listed = await site.operate("GET", "/v1/rollouts/stable@feature%2Fx/events")
        assert listed.json()["events"]


@pytest.mark.parametrize(
    "said",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"],
    ids=["a TLS greeting", "no HTTP", "another HTTP"],
)
async def test_what_is_no_http_is_answered_as_such(said: bytes, tmp_path: Path) -> None:
    """400, a problem like any other."""
    async with strict_site(tmp_path) as site:
        assert problem_in(await site.say(said)) == (400, "not-http")


async def test_a_request_that_wants_another_protocol_is_answered_in_this_one(
    tmp_path: Path,
) -> None:
    """An upgrade is an offer that may be left alone; the connection ends after the answer."""
    upgrade = HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    async with strict_site(tmp_path) as site:
        answer = await site.say(upgrade)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1") == 1


async def test_requests_that_follow_each_other_at_once_are_answered_in_their_order(
    tmp_path: Path,
) -> None:
    """Pipelining is taken, though nobody here does it."""
    last = HEAD.replace(b"/healthz", b"/nowhere") + b"Connection: close\r\n\r\n"
    async with strict_site(tmp_path) as site:
        answer = await site.say((HEAD + b"\r\n") * 3 + last)
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [
            b"200",
            b"200",
            b"200",
            b"404",
        ]


def polls_at_once(count: int, hostname: str, key: SigningKey) -> bytes:
    """Requests that follow each other without waiting; the last closes the connection."""
    path = "/v1/agent/dispatch"
    requests = []
    for _ in range(count):
        headers = signed("GET", path, hostname=hostname, key=key)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        requests.append("\r\n".join([f"GET {path} HTTP/1.1", "Host: h", *lines, "", ""]))
    last = requests[-1].replace("Host: h", "Host: h\r\nConnection: close")
    return "".join([*requests[:-1], last]).encode()


async def test_a_host_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    """429 with Retry-After, for this host alone; refusals are counted by their cause."""
    count = BURST_SECONDS + 3
    async with strict_site(tmp_path, host_requests_per_second_max=1) as site:
        answer = await site.say(polls_at_once(count, "web-01", KEY))
        assert answer.count(b"HTTP/1.1 204") >= BURST_SECONDS
        refused = answer.count(b"HTTP/1.1 429")
        assert refused > 0
        assert problem_in(answer) == (429, "too-frequent")
        assert b"\r\nretry-after: 1\r\n" in answer
        other = await site.say(polls_at_once(1, "web-02", OTHER_KEY))
        assert other.startswith(b"HTTP/1.1 204")
        shown = (await site.ask("GET", "/metrics")).text
    assert f'nixfleet_refused_requests_total{{cause="too-frequent"}} {refused}.0' in shown


def test_the_room_for_requests_fills_again_as_time_passes() -> None:
    """A burst is served, then so many in a second; after a clock was set back, time counts from there."""
    rates = HostRates("requests", 2)
    for _ in range(2 * BURST_SECONDS):
        rates.count("web-01", 100.0)
    for now_seconds, is_served in (
        (100.4, False),
        (100.6, True),
        (100.6, False),
        (50.0, False),
        (50.6, True),
    ):
        with nullcontext() if is_served else pytest.raises(Refusal):
            rates.count("web-01", now_seconds)


async def test_a_host_that_sends_too_many_events_is_told_how_long_to_wait(tmp_path: Path) -> None:
    """They are counted one by one, however few requests bring them."""
    async with strict_site(tmp_path, host_events_per_second_max=1) as site:
        rollout_id = await site.publish("r1")
        async with site.agent(key=KEY) as agent:
            started = tuple(
                AgentEventEnvelope("web-01", rollout_id, ActivationStarted(CLOCK.now(), "x", seq))
                for seq in range(1, BURST_SECONDS)
            )
            await agent.post_events(started)
            with pytest.raises(
                TransportFailed, match="at most 1 events a second of web-01"
            ) as failed:
                await agent.post_events(started)
    assert failed.value.kind == "429 urn:nixfleet:problem:too-frequent"
    assert (failed.value.retry_after_seconds or 0) > 1


def test_more_than_fits_at_once_is_served_from_a_full_bucket() -> None:
    """Otherwise a batch that is larger than the bucket would be refused for ever."""
    rates = HostRates("events", 2)
    rates.count("web-01", 100.0, 1_000)
    with pytest.raises(Refusal) as refused:
        rates.count("web-01", 100.0, 5)
    assert refused.value.headers == {"Retry-After": "3"}
    rates.count("web-01", 103.0, 5)
