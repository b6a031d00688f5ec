"""The signing client against servers that never end, send too much, or compress: no answer costs more than agreed."""

import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import httpx2
import pytest

from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import HttpSender, NoAnswer, signed_client, tls_context
from nixfleet_runtime.http.unreachable import why_no_response
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.storage.regular_file import UnfitFile

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30
KEY = SigningKey.generate()
Send = Callable[[bytes], Awaitable[None]]


class Server:
    """Answers each request with what `answer` sends, and keeps the heads of the requests."""

    def __init__(self, answer: Callable[[Send], Awaitable[None]]) -> None:
        self._answer = answer
        self.heads: list[bytes] = []

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                while True:
                    self.heads.append(await stream.receive())
                    await self._answer(stream.send)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass


@asynccontextmanager
async def asking(
    answer: Callable[[Send], Awaitable[None]], *, answer_bytes_max: int = 1000
) -> AsyncIterator[tuple[HttpSender, Server]]:
    """Yield a client of a server that answers so."""
    server = Server(answer)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, server.handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with signed_client(
            f"http://127.0.0.1:{port}",
            "host:web-01",
            KEY,
            SystemClock(),
            answer_bytes_max=answer_bytes_max,
        ) as client:
            with anyio.fail_after(PATIENCE_SECONDS):
                yield client, server
        tasks.cancel_scope.cancel()


def whole(body: bytes, *headers: str) -> Callable[[Send], Awaitable[None]]:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""]

    async def answer(send: Send) -> None:
        await send("\r\n".join(lines).encode() + body)

    return answer


async def endless(send: Send) -> None:
    await send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await send(b"400\r\n" + b"x" * 1024 + b"\r\n")


async def byte_by_byte(send: Send) -> None:
    await send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        await send(b"x")
        await anyio.sleep(0.01)


async def header_by_header(send: Send) -> None:
    await send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await send(b"x: y\r\n")
        await anyio.sleep(0.01)


async def test_answer_is_returned_as_it_was_sent() -> None:
    """Status, headers and body come back, and the request asked for no compression."""
    async with asking(whole(b"{}", "x-one: 1")) as (client, server):
        answer = await client.send("GET", "/a")

    assert (answer.status_code, answer.headers["x-one"], answer.content) == (200, "1", b"{}")
    assert answer.url.path == "/a"
    assert b"accept-encoding: identity\r\n" in server.heads[0].lower()


@pytest.mark.parametrize("answer", [byte_by_byte, header_by_header])
async def test_answer_that_comes_byte_by_byte_ends_at_the_deadline(
    answer: Callable[[Send], Awaitable[None]],
) -> None:
    """One deadline holds for the whole answer, however often a byte arrives."""
    async with asking(answer) as (client, _):
        with pytest.raises(NoAnswer, match=r"expected a complete answer within 0\.2 s") as failed:
            await client.send("GET", "/a", answer_seconds_max=0.2)

    assert failed.value.kind == "AnswerTooSlow"


async def test_answer_without_an_end_is_cut_at_the_limit() -> None:
    """A body over the limit is no answer, and no more of it is read."""
    async with asking(endless) as (client, _):
        with pytest.raises(NoAnswer, match="at most 1000 bytes") as failed:
            await client.send("GET", "/a")

    assert failed.value.kind == "AnswerTooLarge"


async def test_answer_may_have_as_many_bytes_as_the_caller_expects() -> None:
    """The limit of a call replaces the client's, up to the last byte."""
    async with asking(whole(b"x" * 2000)) as (client, _):
        answer = await client.send("GET", "/a", answer_bytes_max=2000)

    assert len(answer.content) == 2000


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "identity, gzip"])
async def test_compressed_answer_is_refused_unread(encoding: str) -> None:
    """A few bytes may decompress to gigabytes: an encoding is refused by its name."""
    body = gzip.compress(b"x" * 100)
    async with asking(whole(body, f"content-encoding: {encoding}")) as (client, _):
        with pytest.raises(NoAnswer, match=f"no Content-Encoding, found '{encoding}'") as failed:
            await client.send("GET", "/a")

    assert failed.value.kind == "AnswerEncoded"


async def test_next_request_succeeds_after_an_answer_that_was_cut() -> None:
    """A refused answer closes its own connection and nothing else."""
    answers = iter((endless, whole(b"{}")))

    async def answer(send: Send) -> None:
        await next(answers)(send)

    async with asking(answer) as (client, _):
        with pytest.raises(NoAnswer):
            await client.send("GET", "/a")
        assert (await client.send("GET", "/a")).content == b"{}"


async def test_cookies_are_not_kept() -> None:
    """Nothing that a server sets comes back to it in a later request."""
    async with asking(whole(b"", "set-cookie: a=b")) as (client, server):
        for _ in range(2):
            await client.send("GET", "/a")

    assert b"cookie" not in server.heads[1].lower()


async def test_certificate_file_that_is_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """The certificates that are trusted come from a regular file; nothing waits for a writer."""
    os.mkfifo(tmp_path / "authorities.pem")

    with pytest.raises(UnfitFile, match="found a named pipe"):
        tls_context(tmp_path / "authorities.pem")


async def test_certificate_file_without_certificates_is_refused(tmp_path: Path) -> None:
    """An empty file does not mean the machine's authorities."""
    (tmp_path / "authorities.pem").touch()

    with pytest.raises(OSError, match="certificate"):
        tls_context(tmp_path / "authorities.pem")


def _connect_error(cause: BaseException) -> httpx2.ConnectError:
    error = httpx2.ConnectError("All connection attempts failed")
    error.__cause__ = cause
    return error


REFUSED = OSError("All connection attempts failed")
REFUSED.__cause__ = ConnectionRefusedError(111, "Connect call failed")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (_connect_error(REFUSED), "cannot connect to https://cp: nothing listens there"),
        (_connect_error(socket.gaierror(-2, "Name or service not known")), "check the address"),
        (_connect_error(OSError(113, "No route to host")), "No route to host; check the address"),
        (_connect_error(ssl.SSLError(1, "[SSL] wrong version number")), "http:// or https://"),
        (_connect_error(ssl.SSLCertVerificationError(1, "x")), "check the name in the address"),
        (_connect_error(ValueError()), "cannot connect to https://cp: All connection"),
        (httpx2.RemoteProtocolError("Server disconnected"), "check that the control plane"),
        (httpx2.ReadError(""), "the connection to https://cp broke: for an unknown reason"),
        (httpx2.DecodingError("bad"), "no answer from https://cp: bad"),
    ],
)
def test_a_request_without_a_response_says_what_was_not_reached_and_what_to_do(
    error: httpx2.HTTPError, words: str
) -> None:
    """In the words of a person who has to look for the cause; no class of the library is named."""
    said = why_no_response(error, "https://cp")
    assert words in said
    assert "Error" not in said
