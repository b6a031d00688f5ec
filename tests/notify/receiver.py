"""A receiver of webhooks on loopback that answers what a test lets it: also nothing, half an answer, or megabytes."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream
from attrs import define, field, frozen


@frozen
class Received:
    """One request, as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """What receivers deduplicate by."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, object]:
        """The CloudEvent."""
        event: dict[str, object] = json.loads(self.body)
        return event


async def take(stream: SocketStream, _request: Received) -> None:
    """Answer 204."""
    await stream.send(b"HTTP/1.1 204 No Content\r\n\r\n")


def answers(status: str, *headers: str, body: bytes = b"") -> "Answers":
    """Return what answers with this status."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""))

    async def answer(stream: SocketStream, _request: Received) -> None:
        await stream.send(head.encode() + body)

    return answer


Answers = Callable[[SocketStream, Received], Awaitable[None]]


@define
class Receiver:
    """What arrived, and what is answered."""

    port: int
    answer: Answers = take
    received: list[Received] = field(factory=list)
    _arrived: anyio.Event = field(factory=anyio.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        """The ids of what arrived, each once, in order."""
        return list(dict.fromkeys(it.id for it in self.received))

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Return once so much has arrived."""
        while not is_enough():
            self._arrived = anyio.Event()
            if not is_enough():
                await self._arrived.wait()

    async def handle(self, stream: SocketStream) -> None:
        """Take one request of a connection."""
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
            async with stream:
                request = await _request(stream)
                self.received.append(request)
                self._arrived.set()
                await self.answer(stream, request)


async def _request(stream: SocketStream) -> Received:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    while len(body) < int(headers.get("content-length", "0")):
        body += await stream.receive()
    return Received(first.split()[1], headers, body)


@asynccontextmanager
async def receiving(answer: Answers = take) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    receiver = Receiver(port, answer)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, receiver.handle)
        yield receiver
        tasks.cancel_scope.cancel()
