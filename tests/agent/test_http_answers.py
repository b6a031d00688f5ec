"""What the agent makes of answers that say "not now" or "not you": a reason it can act on, and how long to wait."""

from collections.abc import Mapping
from datetime import timedelta

import httpx2
import pytest

from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import SignedClient
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from nixfleet_runtime.transport import TransportFailed
from tests.support.enrolling_server import enrolling_server

pytestmark = pytest.mark.anyio

KEY = SigningKey.generate()


async def failure_of(headers: Mapping[str, str]) -> TransportFailed:
    """Return what an answer of 503 with these headers comes to."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(503, headers=dict(headers), stream=httpx2.ByteStream(b""))

    fake = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(base_url="http://fleet", transport=fake) as client:
        signed = SignedClient(client, "host:web-01", KEY, SystemClock())
        transport = HttpTransport(signed, KEY)
        with pytest.raises(TransportFailed) as failed:
            await transport.next_dispatch(0)
    return failed.value


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "30"}, 30.0),
        ({"Retry-After": "0"}, 0.0),
        (
            {
                "Retry-After": "Sat, 16 May 2026 01:00:30 GMT",
                "Date": "Sat, 16 May 2026 01:00:00 GMT",
            },
            30.0,
        ),
        (
            {
                "Retry-After": "Sat, 16 May 2026 00:00:00 GMT",
                "Date": "Sat, 16 May 2026 01:00:00 GMT",
            },
            0.0,
        ),
        ({"Retry-After": "Sat, 16 May 2026 01:00:30 GMT"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
    ],
)
async def test_how_long_to_wait_is_understood_in_either_spelling(
    headers: dict[str, str], seconds: float | None
) -> None:
    """Seconds, or a date that is held against the answer's own and never against this machine's clock."""
    assert (await failure_of(headers)).retry_after_seconds == seconds


async def test_two_reasons_are_told_apart_without_their_texts() -> None:
    """What is said once is said again when it becomes another thing."""
    with enrolling_server() as server:
        kinds = set()
        for clock in (SystemClock(), FakeClock(SystemClock().now() + timedelta(minutes=10))):
            async with connected(server.url, "web-01", KEY, clock) as transport:
                with pytest.raises(TransportFailed) as failed:
                    await transport.next_dispatch(0)
            kinds.add(failed.value.kind)
    assert kinds == {
        "401 urn:nixfleet:problem:unknown-key",
        "401 urn:nixfleet:problem:skewed-clock",
    }


@pytest.mark.parametrize(("minutes", "words"), [(10, "s ahead of"), (-10, "s behind")])
async def test_a_wrong_clock_is_named_with_its_skew(minutes: int, words: str) -> None:
    """By how many seconds, and in which direction, is in the message that the agent logs."""
    clock = FakeClock(SystemClock().now() + timedelta(minutes=minutes))
    with enrolling_server() as server:
        async with connected(server.url, "web-01", KEY, clock) as transport:
            with pytest.raises(TransportFailed) as failed:
                await transport.next_dispatch(0)
    assert words in str(failed.value)
    assert "synchronise the clocks" in str(failed.value)
