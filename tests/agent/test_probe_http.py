"""Http probes, against a real server on loopback that answers with given bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest

from nixfleet_agent.probes.http import BODY_BYTES_MAX, run_http_probe
from nixfleet_agent.probes.runner import failed
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import HttpProbe

pytestmark = pytest.mark.anyio


class Server:
    """Answers every connection with the same bytes, then hangs up or stays silent."""

    def __init__(self, answer: bytes, *, hang_up: bool) -> None:
        self.answer = answer
        self.hang_up = hang_up
        self.url = ""
        self.requests: list[bytes] = []

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            self.requests.append(await stream.receive())
            try:
                await stream.send(self.answer)
                if not self.hang_up:
                    await stream.receive()
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass


@asynccontextmanager
async def answering(answer: bytes, *, hang_up: bool = True) -> AsyncIterator[Server]:
    server = Server(answer, hang_up=hang_up)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, server.handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        server.url = f"http://127.0.0.1:{port}/health"
        yield server
        tasks.cancel_scope.cancel()


def _answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_answer_with_the_expected_status_passes() -> None:
    """The expected status passes, and one GET was asked for."""
    async with answering(_answer("200 OK")) as server:
        outcome = await run_http_probe(HttpProbe(server.url))

    assert outcome.status is ProbeStatus.PASS
    assert outcome.failure_reason is None
    assert [request.split(b"\r\n")[0] for request in server.requests] == [b"GET /health HTTP/1.1"]


async def test_answer_with_another_status_fails_and_names_both() -> None:
    """Another status fails; the reason names the expected one, the found one and the address."""
    async with answering(_answer("503 Service Unavailable")) as server:
        outcome = await run_http_probe(HttpProbe(server.url))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason == f"expected status 200, found 503 from {server.url}"


async def test_redirect_is_not_followed_and_fails() -> None:
    """A redirect to a healthy place fails: it is an answer with its own status."""
    async with (
        answering(_answer("200 OK")) as healthy,
        answering(_answer("302 Found", b"", f"location: {healthy.url}")) as server,
    ):
        outcome = await run_http_probe(HttpProbe(server.url))

    assert outcome.failure_reason == f"expected status 200, found 302 from {server.url}"
    assert healthy.requests == []


async def test_redirect_that_is_expected_passes() -> None:
    """A redirect passes when its status is the expected one."""
    async with answering(_answer("302 Found", b"", "location: /elsewhere")) as server:
        outcome = await run_http_probe(HttpProbe(server.url, expect_status=302))

    assert outcome.status is ProbeStatus.PASS


async def test_body_with_the_wanted_text_passes() -> None:
    """A body that contains the wanted text passes."""
    async with answering(_answer("200 OK", "état: prêt".encode())) as server:
        outcome = await run_http_probe(HttpProbe(server.url, body_contains="prêt"))

    assert outcome.status is ProbeStatus.PASS


async def test_body_without_the_wanted_text_fails_and_names_it() -> None:
    """A body without the wanted text fails, though its status is the expected one."""
    async with answering(_answer("200 OK", b"starting")) as server:
        outcome = await run_http_probe(HttpProbe(server.url, body_contains="ready"))

    assert outcome.failure_reason == (
        f"expected a body that contains 'ready', found 8 bytes without it from {server.url}"
    )


async def test_body_larger_than_the_limit_is_read_no_further() -> None:
    """Of a huge body only the first mebibyte is read and searched."""
    body = b" " * BODY_BYTES_MAX + b"ready" + b" " * BODY_BYTES_MAX
    async with answering(_answer("200 OK", body)) as server:
        outcome = await run_http_probe(HttpProbe(server.url, body_contains="ready"))

    assert outcome.failure_reason is not None
    assert f"found {BODY_BYTES_MAX} bytes without it" in outcome.failure_reason


async def test_server_that_stays_silent_fails_when_the_time_is_over() -> None:
    """No answer in time fails, with the limit and the address."""
    async with answering(b"", hang_up=False) as server:
        outcome = await run_http_probe(HttpProbe(server.url, timeout_secs=1))

    assert outcome.failure_reason == (
        f"expected status 200 within 1 s, found no complete answer from {server.url}"
    )


async def test_server_that_stops_within_its_body_fails_when_the_time_is_over() -> None:
    """The limit is for the whole answer, not for its beginning."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nrea"
    async with answering(answer, hang_up=False) as server:
        outcome = await run_http_probe(HttpProbe(server.url, body_contains="ready", timeout_secs=1))

    assert outcome.failure_reason is not None
    assert "found no complete answer" in outcome.failure_reason


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nrea"],
    ids=["nothing", "another protocol", "half a body"],
)
async def test_answer_that_is_no_whole_http_fails_and_says_why(answer: bytes) -> None:
    """A server that hangs up early or speaks something else fails, with a reason."""
    async with answering(answer) as server:
        outcome = await run_http_probe(HttpProbe(server.url, body_contains="ready"))

    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith("expected status 200, found ")
    assert outcome.failure_reason.endswith(f" from {server.url}")


async def test_nobody_listening_fails_and_names_the_address() -> None:
    """A refused connection fails, with the system's reason and not a library's summary."""
    async with answering(b"") as server:
        pass

    outcome = await run_http_probe(HttpProbe(server.url))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert outcome.failure_reason.startswith("expected status 200, found ConnectionRefusedError")
    assert outcome.failure_reason.endswith(f" from {server.url}")


async def test_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names does not answer in the place of what is probed."""
    async with answering(_answer("200 OK")) as server, answering(_answer("200 OK")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", proxy.url)
        outcome = await run_http_probe(HttpProbe(server.url))

    assert outcome.status is ProbeStatus.PASS
    assert proxy.requests == []


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1", "http://[::1", "http://"])
async def test_address_that_is_no_http_url_fails_and_names_it(url: str) -> None:
    """What cannot be asked at all fails, with the address as it was declared."""
    outcome = await run_http_probe(HttpProbe(url))

    assert outcome.status is ProbeStatus.FAIL
    assert outcome.failure_reason is not None
    assert outcome.failure_reason.endswith(f" from {url}")


def test_a_secret_in_the_url_is_not_in_the_reason() -> None:
    """The reason becomes a fact, and the log keeps facts for ever."""
    outcome = failed("status 200", "500 from http://probe:hunter2@127.0.0.1/health?token=hunter2")

    assert outcome.failure_reason == (
        "expected status 200, found 500 from http://[redacted]@127.0.0.1/health?token=[redacted]"
    )
