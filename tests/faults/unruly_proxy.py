"""A proxy that loses, delays, repeats, cuts off and re-orders what passes through it, as one seed decides.

It knows just enough of HTTP/1.1 to tell where a request ends; what the requests say it passes on byte for byte.
Each request travels on a connection of its own to the control plane, so that none is held up by another's mishap.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import assert_never

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import frozen

HEAD_BYTES_MAX = 64 * 1024
DELAY_SECONDS_MAX = 0.2
HELD_BACK_SECONDS_MAX = 1.0
HEAD_END = b"\r\n\r\n"


class Mishap(StrEnum):
    """What befalls a request, or its answer."""

    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    DELAYED = "delayed"
    REPEATED = "repeated"
    REQUEST_CUT = "request cut off"
    ANSWER_CUT = "answer cut off"
    OVERTAKEN = "overtaken by the next request"


FEW_MISHAPS: Mapping[Mishap, float] = dict.fromkeys(Mishap, 0.05)
"""The share of requests that each mishap befalls."""


@frozen
class _Request:
    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        # The answer then ends where the connection does.
        return self.head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + HEAD_END + self.body


class UnrulyProxy:
    """Stands between agents and the control plane at `port`. `befallen` counts what it did. Made by `proxying`."""

    def __init__(self, port: int, mishaps: Mapping[Mishap, float], chance: random.Random) -> None:
        self.port = port
        self.befallen = Counter[Mishap]()
        self._mishaps = mishaps
        self._chance = chance
        self._passing = anyio.Event()

    async def serve(self, client: SocketStream) -> None:
        """Pass one client's requests on until it has enough, or a mishap ends the connection."""
        async with client:
            try:
                request = await _read(client)
                if request is not None:
                    await self._treat(client, request)
            except (anyio.BrokenResourceError, anyio.EndOfStream, OSError):
                pass  # One of the two sides hung up or is not there: the other sees just that.

    async def _treat(self, client: ByteStream, request: _Request) -> None:
        mishap = self._drawn()
        match mishap:
            case None:
                await client.send(await self._answer(request))
            case Mishap.REQUEST_LOST:
                return
            case Mishap.ANSWER_LOST:
                await self._answer(request)
            case Mishap.DELAYED:
                await anyio.sleep(self._chance.uniform(0, DELAY_SECONDS_MAX))
                await client.send(await self._answer(request))
            case Mishap.REPEATED:
                answer = await self._answer(request)
                await self._answer(request)
                await client.send(answer)
            case Mishap.REQUEST_CUT:
                await self._send_part(request)
            case Mishap.ANSWER_CUT:
                answer = await self._answer(request)
                await client.send(answer[: self._chance.randrange(1, len(answer))])
            case Mishap.OVERTAKEN:
                with anyio.move_on_after(HELD_BACK_SECONDS_MAX):
                    await self._passing.wait()
                await client.send(await self._answer(request))
            case _:
                assert_never(mishap)

    def _drawn(self) -> Mishap | None:
        for mishap, share in self._mishaps.items():
            if self._chance.random() < share:
                self.befallen[mishap] += 1
                return mishap
        return None

    async def _answer(self, request: _Request) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as upstream:
            await upstream.send(request.raw)
            answer = bytearray()
            async for chunk in upstream:
                answer += chunk
        passing, self._passing = self._passing, anyio.Event()
        passing.set()
        if not answer:
            raise anyio.EndOfStream
        return bytes(answer)

    async def _send_part(self, request: _Request) -> None:
        async with await anyio.connect_tcp("127.0.0.1", self.port) as upstream:
            await upstream.send(request.raw[: self._chance.randrange(1, len(request.raw))])


async def _read(client: SocketStream) -> _Request | None:
    """Return what the client asks; `None`: it left before it had said all of it."""
    stream = BufferedByteReceiveStream(client)
    try:
        head = await stream.receive_until(HEAD_END, HEAD_BYTES_MAX)
        length = _length(head)
        return _Request(head, await stream.receive_exactly(length) if length else b"")
    except anyio.IncompleteRead:
        return None


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


@asynccontextmanager
async def proxying(
    port: int, chance: random.Random, mishaps: Mapping[Mishap, float] = FEW_MISHAPS
) -> AsyncIterator[tuple[str, UnrulyProxy]]:
    """Yield the address of a proxy in front of the control plane at `port`, and the proxy.

    Its `port` may be set anew: a control plane that starts again may listen elsewhere.
    """
    proxy = UnrulyProxy(port, mishaps, chance)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    address = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield address, proxy
        tasks.cancel_scope.cancel()
