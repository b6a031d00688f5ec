"""A TCP proxy in front of a server, which cuts connections when told to."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from threading import Event

from anyio.from_thread import start_blocking_portal
from attrs import define, field


class Cut(Enum):
    """When the connection of the next statement breaks."""

    BEFORE = auto()
    """The server does not get it."""
    AT_ONCE = auto()
    """The server gets it, and has perhaps begun."""
    ANSWER = auto()
    """The server has answered, and the answer does not arrive."""


@define
class Proxy:
    """Hands everything on. cut: what becomes of the next statement with arguments; cuts: of how many.

    statements_before_cut: how many statements, also without arguments, go before it; by default none.
    refusing: no new connections.
    silent: nothing is handed on, either way, and no connection breaks: the network is gone.
    """

    server_port: int
    port: int = 0
    cut: Cut | None = None
    cuts: int = 0
    refusing: bool = False
    statements_before_cut: int | None = None
    silent: bool = False
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def cut_all(self) -> None:
        """Break every connection there is. From another thread than the proxy's."""
        assert self._loop is not None, "it runs"
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])

    async def run(self, ready: Callable[[], object]) -> None:
        """Listen until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            to = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:  # the server is being restarted
            writer.transport.abort()
            return
        answer_is_lost = asyncio.Event()
        up = asyncio.create_task(self._up(reader, to[1], answer_is_lost))
        down = asyncio.create_task(self._down(to[0], writer, answer_is_lost))
        self._tasks |= {up, down}
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        self._tasks -= {up, down}
        for each in (writer, to[1]):
            each.transport.abort()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        answer_is_lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(1 << 20):
            cut = self.cut if self._is_next(data) else None
            if cut is not None:
                self.cut = None
                self.cuts += 1
            if cut is Cut.BEFORE:
                return
            if cut is Cut.ANSWER:
                answer_is_lost.set()
            await self._while_silent()
            to.write(data)
            await to.drain()
            if cut is Cut.AT_ONCE:
                return

    def _is_next(self, data: bytes) -> bool:
        """Whether this is the statement that is cut."""
        # Bind has the arguments of a prepared statement, Query the text of one without.
        if self.statements_before_cut is None:
            return data[:1] == b"B"
        if data[:1] not in (b"B", b"Q"):
            return False
        self.statements_before_cut -= 1
        return self.statements_before_cut < 0

    async def _down(
        self,
        reader: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        answer_is_lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(1 << 20):
            if answer_is_lost.is_set():
                return  # after the commit: the server answers when it is durable
            await self._while_silent()
            to.write(data)
            await to.drain()

    async def _while_silent(self) -> None:
        while self.silent:  # noqa: ASYNC110 another thread ends it
            await asyncio.sleep(0.01)


@contextmanager
def running_proxy(server_port: int) -> Iterator[Proxy]:
    """Run a proxy, in an event loop of its own."""
    proxy = Proxy(server_port)
    with start_blocking_portal("asyncio") as portal:
        listening = Event()
        running = portal.start_task_soon(proxy.run, listening.set)
        listening.wait()
        try:
            yield proxy
        finally:
            running.cancel()
