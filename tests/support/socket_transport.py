"""A transport that an embedder could write: calls over Unix sockets, one for each host, as a plug-in of both sides.

The server knows who speaks by the socket that a call came over, which only that host may open. One call is one
connection; a caller that is cancelled closes it. The module imports nothing of the tests, so it can be installed alone.
"""

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from nixfleet_control_plane.service import AnotherHost, ControlPlaneService
from nixfleet_proto import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, QueueFull, WriteFailed
from nixfleet_runtime.transport import (
    EventsOutcome,
    Heartbeat,
    HeartbeatReply,
    Transport,
    TransportFailed,
)

NO_ANSWER = (AnotherHost, EngineFault, MutatorClosed, QueueFull, WriteFailed)
GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class SocketServer:
    """The control plane's end. hosts: whose sockets are in `directory`."""

    def __init__(self, directory: Path, hosts: tuple[str, ...]) -> None:
        self._directory = directory
        self._hosts = hosts

    @asynccontextmanager
    async def serve(self, service: ControlPlaneService) -> AsyncIterator[None]:
        """Answer while the context is open."""
        async with AsyncExitStack() as held, anyio.create_task_group() as tasks:
            for hostname in self._hosts:
                listener = await anyio.create_unix_listener(self._directory / hostname)
                await held.enter_async_context(listener)
                tasks.start_soon(listener.serve, self._answering(service, hostname), tasks)
            yield
            tasks.cancel_scope.cancel()

    def _answering(
        self, service: ControlPlaneService, hostname: str
    ) -> Callable[[SocketStream], Awaitable[None]]:
        async def answer(stream: SocketStream) -> None:
            async with stream:
                with suppress(*GONE):
                    received = BufferedByteReceiveStream(stream)
                    call, arguments = await _received(received)
                    reply = await _unless_gone(received, service, hostname, call, arguments)
                    if reply is not None:
                        await _send(stream, reply)

        return answer


class SocketClient:
    """The agent's end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def connect(
        self, hostname: str, key: SigningKey, clock: Clock
    ) -> AsyncIterator[Transport]:
        """Open the way to the control plane; each call connects."""
        yield SocketTransport(self._directory / hostname)


class SocketTransport:
    """A `Transport` over the socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """As `Transport.post_events`."""
        outcome: EventsOutcome = await self._answer("post_events", envelopes)
        return outcome

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """As `Transport.next_dispatch`."""
        dispatch: Dispatch | None = await self._answer("next_dispatch", wait_seconds)
        return dispatch

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """As `Transport.heartbeat`."""
        reply: HeartbeatReply = await self._answer("heartbeat", heartbeat)
        return reply

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """As `Transport.fetch_manifest`."""
        manifest: SignedArtefact | None = await self._answer("fetch_manifest", rollout_id)
        return manifest

    async def _answer(self, call: str, arguments: object) -> Any:
        try:
            async with await anyio.connect_unix(self._path) as stream:
                await _send(stream, (call, arguments))
                is_answer, answer = await _received(BufferedByteReceiveStream(stream))
        except (OSError, *GONE) as error:
            raise TransportFailed(f"no answer from {self._path}: {error!r}") from error
        if not is_answer:
            raise TransportFailed(answer, was_answered=True)
        return answer


async def _unless_gone(
    received: BufferedByteReceiveStream,
    service: ControlPlaneService,
    hostname: str,
    call: str,
    arguments: object,
) -> tuple[bool, object] | None:
    """Return the reply; `None` if the caller hung up before."""
    replies: list[tuple[bool, object]] = []
    async with anyio.create_task_group() as tasks:

        async def until_gone() -> None:
            with suppress(*GONE):
                await received.receive()
            tasks.cancel_scope.cancel()

        tasks.start_soon(until_gone)
        try:
            replies.append((True, await _asked(service, hostname, call, arguments)))
        except NO_ANSWER as error:
            replies.append((False, str(error)))
        tasks.cancel_scope.cancel()
    return next(iter(replies), None)


async def _asked(service: ControlPlaneService, hostname: str, call: str, arguments: Any) -> object:
    match call:
        case "post_events":
            return await service.take_events(hostname, arguments)
        case "next_dispatch":
            return await service.next_dispatch(hostname, arguments)
        case "heartbeat":
            return await service.compare(hostname, arguments)
        case _:
            return await service.manifest(arguments, hostname)


async def _send(stream: SocketStream, message: object) -> None:
    body = pickle.dumps(message)
    await stream.send(len(body).to_bytes(4, "big") + body)


async def _received(stream: BufferedByteReceiveStream) -> Any:
    length = int.from_bytes(await stream.receive_exactly(4), "big")
    return pickle.loads(await stream.receive_exactly(min(length, MESSAGE_BYTES_MAX)))


def transport(section: Section) -> SocketServer | SocketClient:
    """Return the end that the section configures: with `hosts`, that of the control plane."""
    directory, hosts = Path(section.text("directory")), section.texts("hosts")
    return SocketClient(directory) if hosts is None else SocketServer(directory, hosts)
