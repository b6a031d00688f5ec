"""Pages of a log, judged before they are believed: a control plane may be in other hands, or of another version."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from nixfleet_control_plane.http.routes.log import KINDS
from nixfleet_notify.config_hooks import LOG_KINDS
from nixfleet_notify.ways.feed import PAGE_BYTES_MAX, PAGE_LINES, Feed, FeedSilent, LogShorter
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import SignedClient
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.kernel.clock import SystemClock

pytestmark = pytest.mark.anyio

LINE: dict[str, Any] = {
    "seq": 7,
    "ts": "2026-05-16T01:00:00Z",
    "kind": "rollout_event",
    "payload": {},
    "type": "rollout.halted",
    "severity": "act",
}
PAGE: dict[str, Any] = {"events": [LINE], "next": 9, "head": 12}


def _feed(answer: Callable[[httpx2.Request], httpx2.Response]) -> Feed:
    client = httpx2.AsyncClient(
        base_url="https://fleet.example.org", transport=httpx2.MockTransport(answer)
    )
    key = SigningKey.generate()
    return Feed(SignedClient(client, "operator:bob", key, SystemClock()), Severity.WARNING)


def _response(status: int, body: object) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.Response(status, stream=httpx2.ByteStream(content))


def _answering(status: int, body: object) -> Feed:
    return _feed(lambda _: _response(status, body))


async def test_a_page_is_asked_for_by_severity_and_a_row_by_its_number() -> None:
    """A row that is asked for is told whatever it is."""
    asked = list[dict[str, str]]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        return _response(200, PAGE)

    feed = _feed(answer)
    page = await feed.page(6, wait_seconds=20)
    await feed.row(7)

    assert [line.type for line in page.events] == ["rollout.halted"]
    assert asked == [
        {"after": "6", "limit": str(PAGE_LINES), "wait": "20", "severity": "warning"},
        {"after": "6", "limit": "1", "wait": "0"},
    ]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {**PAGE, "next": 5}, "goes back in the log"),
        (200, {**PAGE, "events": [{**LINE, "seq": 6}]}, "goes back in the log"),
        (200, {"events": [], "next": 6, "head": 9}, "does not go on"),
        (200, {**PAGE, "events": [{**LINE, "type": None}]}, "it is too old"),
        (200, {"events": []}, "cannot be decoded"),
        (200, b"<html>\x1b[2J", "cannot be decoded"),
        (403, {"type": "urn:nixfleet:problem:role", "title": "No\x1b", "status": 403}, r"No\x1b"),
        (503, b"", "refuses to show its log (503)"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_silence(
    status: int, body: object, why: str
) -> None:
    """With what is wrong in words that can be shown."""
    with pytest.raises(FeedSilent) as silent:
        await _answering(status, body).page(6)
    assert why in silent.value.problem
    assert silent.value.problem.isprintable()


async def test_a_log_that_is_shorter_is_another_log() -> None:
    """By the type of the problem."""
    problem = {"type": "urn:nixfleet:problem:log-shorter", "title": "no such row", "status": 409}
    with pytest.raises(LogShorter):
        await _answering(409, problem).page(6)


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_pieces() -> None:
    """Until it fits; then in larger ones again."""
    limits = list[int]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        limits.append(int(request.url.params["limit"]))
        too_large = b"x" * (PAGE_BYTES_MAX + 1)
        return _response(200, too_large if limits[-1] > 50 else PAGE)

    feed = _feed(answer)
    for _ in range(2):
        with pytest.raises(FeedSilent, match="at most"):
            await feed.page(6)
    await feed.page(6)
    with pytest.raises(FeedSilent, match="at most"):
        await feed.page(6)

    assert limits == [200, 100, 50, 100]


async def test_hooks_choose_by_the_kinds_that_lines_have() -> None:
    """A report has lines of kind `agent_event` or `fact_refused`."""
    assert set(LOG_KINDS) == set(KINDS) - {"agent_events"}
