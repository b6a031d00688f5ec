"""The control plane as a process: its parts, and the order in which they start and stop. The composition root.

Whatever can fail (trust file, database, address) is opened first, so a process that has begun to listen keeps running.
A stop refuses new requests, answers the accepted ones, releases waiting polls, and writes the remaining host records;
on a shared store it hands over to a standby. Killing the process instead loses nothing that was acknowledged.
Source: docs/spec/runtimes.md, Control plane; docs/how-to/running-a-control-plane.md.
"""

import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import anyio.lowlevel
import uvicorn
from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_control_plane.config import ControlPlaneConfig, ListenConfig
from nixfleet_control_plane.hosting.starting import opened_shards, queries_of
from nixfleet_control_plane.http.server.server import TlsFiles, server_config
from nixfleet_control_plane.leadership.decision import Leading
from nixfleet_control_plane.leadership.front import Front
from nixfleet_control_plane.leadership.participant import Participant, Term
from nixfleet_control_plane.leadership.shared_store import OpenedShare
from nixfleet_control_plane.open_files import raise_open_file_limit
from nixfleet_control_plane.starting import CannotStart, ending_by_name, using_store
from nixfleet_control_plane.store.opened_store import OpenedStore
from nixfleet_control_plane.term import (
    Ground,
    Led,
    TrustInForce,
    limits_of,
    retention_of,
    serving,
    versions_of,
)
from nixfleet_proto.codec import DecodeError, decode_trust_root
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, WriteFailed
from nixfleet_runtime.process.service_manager import notify
from nixfleet_runtime.process.trust_file import TrustFile
from nixfleet_runtime.storage.regular_file import read_regular_file

_BACKLOG: Final = 2048
_RECORD_SECONDS_MAX: Final = 5.0
"""For how long a leader that is to hand over writes host records first, and serves meanwhile."""
_log = logging.getLogger(__name__)


def run_control_plane(
    config: ControlPlaneConfig, clock: Clock, on_listening: Callable[[str], None]
) -> None:
    """Run a control plane until SIGTERM or SIGINT.

    clock: the fleet's time. Signed requests are checked against the machine's clock instead, because connections are
    lost and retried in real time. on_listening: called with the URL once the server accepts connections. Raises:
    CannotStart, before that; WritingEnded, when the store can be written no more.
    """
    with ending_by_name():
        anyio.run(partial(_run, config, clock, on_listening), backend_options={"use_uvloop": True})


@frozen
class _Listening:
    """Where requests come in. url: of the socket."""

    socket: socket.socket
    url: str
    on_listening: Callable[[str], None]


async def _run(
    config: ControlPlaneConfig, clock: Clock, on_listening: Callable[[str], None]
) -> None:
    async with AsyncExitStack() as held:
        trust = TrustInForce(_trust_in(config.trust.file))
        opened: OpenedStore | OpenedShare
        with using_store(config.store):
            if config.store.is_shared and not config.shards:
                opened = await held.enter_async_context(config.store.sharing())
            else:
                opened = await held.enter_async_context(config.store.opened())
        shards = await held.enter_async_context(opened_shards(config.shards))
        listener = _listen(config.listen, held)
        listening = _Listening(listener, _url(config.listen, listener), on_listening)
        _make_room(config.limits.connections_max)
        queries = queries_of(config, opened.queries, shards)
        ground = Ground(config, clock, trust, queries, opened.keeper, shards)
        if isinstance(opened, OpenedStore):
            await _run_alone(ground, opened, listening)
        else:
            await _run_among_others(ground, opened, listening)
    _log.info("stopped")


async def _run_alone(ground: Ground, opened: OpenedStore, listening: _Listening) -> None:
    """Serve until a signal."""
    async with serving(ground, opened.store) as served:
        server = _server(ground, served.app, served.metrics.count_refusal)

        def stop() -> None:
            server.should_exit = True
            served.service.begin_closing()

        async with _attended(ground, server, listening, stop):
            await server.serve(sockets=[listening.socket])


async def _run_among_others(ground: Ground, opened: OpenedShare, listening: _Listening) -> None:
    """Serve while this process leads, and follow while another one does, until a signal."""
    retention_of(ground)
    front = Front(versions_of(ground.config.store))
    url = ground.config.listen.url or listening.url

    @asynccontextmanager
    async def lead(term: Term) -> AsyncIterator[None]:
        led = Led(term.state, term.is_current, url, front.refusal, front.register)
        async with serving(ground, term.store, led) as served:
            with front.serving(served.app, term.is_current, served.metrics.count_refusal):
                yield
                with anyio.move_on_after(_RECORD_SECONDS_MAX):
                    try:
                        await served.service.write_records()
                    except (WriteFailed, EngineFault, MutatorClosed) as error:
                        _log.warning("some host records were not written to the cache: %s", error)

    def on_look() -> None:
        if not isinstance(participant.leadership, Leading):
            ground.watchdog.status = front.standing
            ground.watchdog.beat(0)

    participant = front.participant = Participant(opened.shared, url, lead, on_look=on_look)
    server = _server(ground, front, front.count_refusal)

    async def take_part() -> None:
        with using_store(ground.config.store):
            await participant.run()
        server.should_exit = True

    async with _attended(ground, server, listening, participant.ask_stop) as tasks:
        tasks.start_soon(take_part)
        await server.serve(sockets=[listening.socket])


@asynccontextmanager
async def _attended(
    ground: Ground, server: "_Server", listening: _Listening, stop: Callable[[], None]
) -> AsyncIterator[anyio.abc.TaskGroup]:
    """Do what a server needs beside it: the signals, the trust file, and word that it listens."""
    trust = ground.trust
    trust_file = TrustFile(ground.config.trust.file, trust.root, trust.take)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, server, stop)
        tasks.start_soon(trust_file.follow)
        tasks.start_soon(_announce, server, listening)
        yield tasks
        tasks.cancel_scope.cancel()


def _server(ground: Ground, app: ASGIApp, on_refused: Callable[[str], None]) -> "_Server":
    listen = ground.config.listen
    tls = None if listen.tls is None else TlsFiles(listen.tls.certificate_file, listen.tls.key_file)
    return _Server(
        server_config(
            app,
            limits_of(ground.config.limits),
            tls=tls,
            behind_proxy=listen.behind_proxy,
            on_refused=on_refused,
        )
    )


class _Server(uvicorn.Server):
    """uvicorn, without its signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_stop_on_signal`, which releases waiting polls first."""
        yield


async def _stop_on_signal(server: _Server, stop: Callable[[], None]) -> None:
    is_stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for received in signals:
            if is_stopping:
                # A second signal forces the exit.
                server.should_exit = server.force_exit = True
            is_stopping = True
            _log.info("%s: answering accepted requests, then stopping", received.name)
            notify("STOPPING=1")
            stop()


async def _announce(server: _Server, listening: _Listening) -> None:
    while not server.started:
        await anyio.lowlevel.checkpoint()
    _log.info("listening on %s", listening.url)
    listening.on_listening(listening.url)
    notify("READY=1")


def _make_room(connections_max: int) -> None:
    possible = raise_open_file_limit(connections_max)
    if possible < connections_max:
        _log.warning(
            "the limit of open files allows %d connections, fewer than limits.connections_max = %d: "
            "raise the hard limit (LimitNOFILE=)",
            possible,
            connections_max,
        )


# What can fail before anything is started.


def _trust_in(path: Path) -> TrustRoot:
    try:
        return decode_trust_root(read_regular_file(path))
    except (OSError, DecodeError) as error:
        raise CannotStart("the trust file", str(error)) from error


def _listen(config: ListenConfig, held: AsyncExitStack) -> socket.socket:
    try:
        if config.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            for file in (config.tls.certificate_file, config.tls.key_file):
                read_regular_file(file)  # OpenSSL would wait for the writer of a named pipe
            context.load_cert_chain(config.tls.certificate_file, config.tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise CannotStart("the TLS certificate", str(error)) from error
    try:
        (family, *_, address), *_ = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = held.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise CannotStart(f"the address {config.host}:{config.port}", str(error)) from error
    os.set_inheritable(listener.fileno(), False)
    return listener


def _url(listen: ListenConfig, listener: socket.socket) -> str:
    scheme = "http" if listen.tls is None else "https"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}"
