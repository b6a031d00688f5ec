"""The control plane as a process: its parts, and the order in which they start and stop. The composition root.

Whatever can fail (trust file, database, address) is opened first, so a process that has begun to listen keeps running.
A stop refuses new requests, answers the accepted ones, releases waiting polls, and writes the remaining host records.
Killing the process instead loses nothing that was acknowledged.
Source: docs/spec/runtimes.md, Control plane; docs/how-to/running-a-control-plane.md.
"""

import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
import uvicorn
from attrs import frozen
from starlette.types import ASGIApp

import nixfleet
from nixfleet_control_plane.config import ControlPlaneConfig, LimitsConfig, ListenConfig
from nixfleet_control_plane.config_judges import JudgeConfig
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.forecaster import Forecaster, forecasting
from nixfleet_control_plane.history.retention.gauges import register_retention_gauges
from nixfleet_control_plane.history.retention.worker import RetentionWorker
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.earlier_commands import earlier_commands
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import TlsFiles, server_config
from nixfleet_control_plane.judges.http_judges import judge_of
from nixfleet_control_plane.judges.worker import JudgeWorker
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.observability.gauges import register_gauges
from nixfleet_control_plane.observability.overview_gauges import register_overview_gauges
from nixfleet_control_plane.open_files import raise_open_file_limit
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.releases.scan import ReleaseScanner
from nixfleet_control_plane.releases.watcher import ReleaseWatcher
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.opened_store import OpenedStore, StoreUnusable
from nixfleet_proto.codec import DecodeError, decode_trust_root
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.config.plugins import PluginUnusable
from nixfleet_runtime.http.signing.nonces import EarlierRequests
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.kernel.visible import visible
from nixfleet_runtime.kernel.write_failures import Unreachable, WritingEnded
from nixfleet_runtime.process import garbage
from nixfleet_runtime.process.service_manager import Watchdog, notify
from nixfleet_runtime.process.trust_file import TrustFile
from nixfleet_runtime.storage.instance_lock import DatabaseInUse
from nixfleet_runtime.storage.opening import UnusableDatabase, opening_database
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.transport import TransportUnusable
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.hold import HoldKind
from nixfleet_state_machine.planner.pace.status import Shortage
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState, Standing

_BACKLOG: Final = 2048
_DAMAGED: Final = (
    "restore a backup, or move it away: without it, the hosts tell what their journals have"
)
S = TypeVar("S", HoldKind, HostState, RolloutState, Gate, Stage, Standing, Shortage)
_log = logging.getLogger(__name__)


class CannotStart(NixfleetError):
    """Something that the configuration names cannot be used. Attributes: `what`, `problem`."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


def run_control_plane(
    config: ControlPlaneConfig, clock: Clock, on_listening: Callable[[str], None]
) -> None:
    """Run a control plane until SIGTERM or SIGINT.

    clock: the fleet's time. Signed requests are checked against the machine's clock instead, because connections are
    lost and retried in real time. on_listening: called with the URL once the server accepts connections. Raises:
    CannotStart, before that; WritingEnded, when the store can be written no more.
    """
    with _ending_by_name():
        anyio.run(partial(_run, config, clock, on_listening), backend_options={"use_uvloop": True})


@frozen
class _Parts:
    """The parts that were opened successfully before anything was started."""

    config: ControlPlaneConfig
    clock: Clock
    trust: TrustRoot
    opened: OpenedStore
    listener: socket.socket


async def _run(
    config: ControlPlaneConfig, clock: Clock, on_listening: Callable[[str], None]
) -> None:
    async with AsyncExitStack() as held:
        trust = _trust_in(config.trust.file)
        with _using_store(config.store):
            opened = await held.enter_async_context(config.store.opened())
        listener = _listen(config.listen, held)
        _make_room(config.limits.connections_max)
        await _serve(_Parts(config, clock, trust, opened, listener), on_listening)


async def _serve(parts: _Parts, on_listening: Callable[[str], None]) -> None:
    config, clock, metrics = parts.config, parts.clock, Metrics()
    watchdog = Watchdog()
    garbage.collect_rarely()

    def on_batch(length: int) -> None:
        metrics.observe_batch(length)
        watchdog.beat(length)

    async with AsyncExitStack() as open_service:
        with _using_store(config.store):
            earlier = await earlier_commands(parts.opened.queries, SystemClock().now())
            service = await open_service.enter_async_context(
                running(
                    parts.opened.store,
                    clock,
                    trust=parts.trust,
                    tick_seconds=config.ticks.plan_seconds,
                    queue_length_max=config.limits.queue_length_max,
                    write_seconds_max=config.store.write_seconds_max,
                    record_metric=metrics.record,
                    on_batch=on_batch,
                    freshness_limit_minutes=config.trust.freshness_window_minutes,
                )
            )
        watchdog.status = partial(_status_line, service)
        register_gauges(metrics, service, has_database_version=config.store.path is not None)
        register_overview_gauges(metrics, service)
        retention = _retention(parts)
        if retention is not None:
            register_retention_gauges(metrics, retention, service)
        forecaster = await open_service.enter_async_context(
            forecasting(config.forecast, config.store, lambda: service.feed.head, service.now)
        )
        app = _app(parts, service, metrics, earlier, retention, forecaster)
        server = _server(parts, app, metrics)
        scanner = ReleaseScanner(parts.trust, config.trust.freshness_window_minutes)
        watcher = ReleaseWatcher(service, config.releases.directory, scanner, clock)
        trust_file = TrustFile(
            config.trust.file, parts.trust, partial(_use_trust, service, watcher)
        )
        garbage.freeze()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, service, server)
            tasks.start_soon(watcher.run, config.releases.poll_seconds)
            tasks.start_soon(trust_file.follow)
            if retention is not None:
                tasks.start_soon(retention.run)
            judges = {
                name: judge_of(judge) if isinstance(judge, JudgeConfig) else judge
                for name, judge in config.judges.items()
            }
            tasks.start_soon(JudgeWorker(service, judges, clock).run)
            async with AsyncExitStack() as transports:
                for transport in config.transports.values():
                    with _using_plugin("the transport"):
                        await transports.enter_async_context(transport.serving(service, app))
                tasks.start_soon(_announce, server, _url(parts), on_listening)
                await server.serve(sockets=[parts.listener])
            tasks.cancel_scope.cancel()
    _log.info("stopped")


def _use_trust(service: ControlPlaneService, watcher: ReleaseWatcher, trust: TrustRoot) -> None:
    service.use_trust(trust)
    watcher.use_trust(trust)


def _retention(parts: _Parts) -> RetentionWorker | None:
    config, keeper = parts.config.retention, parts.opened.keeper
    if config is None:
        return None
    if keeper is None:
        kind = parts.config.store.where
        raise CannotStart("retention", f"expected a store that drops old rows, found {kind}")
    return RetentionWorker(config, keeper, parts.clock)


def _app(
    parts: _Parts,
    service: ControlPlaneService,
    metrics: Metrics,
    earlier: EarlierRequests,
    retention: RetentionWorker | None,
    forecaster: Forecaster,
) -> ASGIApp:
    config = parts.config
    return make_app(
        service,
        service.ring,
        parts.opened.queries,
        SystemClock(),
        not_ready_because=partial(_not_ready_because, service),
        readiness_detail=partial(_readiness_detail, service),
        limits=_limits(config.limits),
        metrics=metrics,
        earlier_commands=earlier,
        forecaster=forecaster,
        versions=(f"nixfleet {nixfleet.__version__}", _version_of(config.store)),
        health_detail=tuple
        if retention is None
        else lambda: tuple(retention.lines(service.totals().head_seq)),
    )


def _server(parts: _Parts, app: ASGIApp, metrics: Metrics) -> "_Server":
    config = parts.config
    named = config.listen.tls
    tls = None if named is None else TlsFiles(named.certificate_file, named.key_file)
    behind_proxy = config.listen.behind_proxy
    return _Server(
        server_config(
            app,
            _limits(config.limits),
            tls=tls,
            behind_proxy=behind_proxy,
            on_refused=metrics.count_refusal,
        )
    )


def _version_of(store: StoreConfig) -> str:
    if store.path is None:
        of = f" of {store.plugin.distribution}" if store.plugin.distribution else ""
        return f"store {store.plugin.name}{of}"
    return f"database version {DATABASE_FORMAT.version}"


def _limits(config: LimitsConfig) -> Limits:
    return Limits(
        body_bytes_max=config.body_bytes_max,
        bodies_bytes_max=config.bodies_bytes_max,
        body_seconds_max=config.body_seconds_max,
        header_bytes_max=config.header_bytes_max,
        header_seconds_max=config.header_seconds_max,
        answer_seconds_max=config.answer_seconds_max,
        keep_alive_seconds=config.keep_alive_seconds,
        connections_max=config.connections_max,
        pollers_per_host_max=config.pollers_per_host_max,
        pollers_max=config.pollers_max,
        host_requests_per_second_max=config.host_requests_per_second_max,
        host_events_per_second_max=config.host_events_per_second_max,
        viewers_per_operator_max=config.viewers_per_operator_max,
        viewers_max=config.viewers_max,
    )


def _status_line(service: ControlPlaneService) -> str:
    totals = service.totals()
    rollouts = ", ".join(f"{number} {state}" for state, number in totals.rollouts.items() if number)
    return f"row {totals.head_seq}; {totals.enrolled} hosts; rollouts: {rollouts or 'none'}"


def _not_ready_because(service: ControlPlaneService) -> str | None:
    if service.is_closing:
        return "shutting down"
    if service.totals().manifests:
        return None
    return "\n".join(("no release has been verified yet", *_readiness_detail(service)))


def _readiness_detail(service: ControlPlaneService) -> tuple[str, ...]:
    """Return what an operator should see beside `ready`: the age of what is in force, and what is refused."""
    now, standing = service.now(), service.standing()
    lines = [
        f"{it.channel}: {it.rollout_id} signed {_minutes(now - it.signed_at)} min ago, "
        + (
            f"stale in {_minutes(it.stale_at - now)} min"
            if it.stale_at > now
            else f"STALE for {_minutes(now - it.stale_at)} min: hosts refuse it, sign again"
        )
        for it in standing.channels
    ]
    if standing.problem is not None:
        # Without the problem, which names paths: strangers read this.
        lines.append("the release directory cannot be read: `nixfleet operator releases` says why")
    lines += [f"refused: {it.name}: {it.reason}" for it in standing.refused]
    lines += [f"left out of the start: {it}" for it in standing.left_out]
    return tuple(map(visible, lines))


def _minutes(time: timedelta) -> int:
    return time // timedelta(minutes=1)


class _Server(uvicorn.Server):
    """uvicorn, without its signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_stop_on_signal`, which releases waiting polls first."""
        yield


async def _stop_on_signal(service: ControlPlaneService, server: _Server) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for received in signals:
            # A second signal forces the exit.
            server.force_exit = server.should_exit
            server.should_exit = True
            _log.info("%s: answering accepted requests, then stopping", received.name)
            notify("STOPPING=1")
            service.begin_closing()


async def _announce(server: _Server, url: str, on_listening: Callable[[str], None]) -> None:
    while not server.started:
        await anyio.lowlevel.checkpoint()
    _log.info("listening on %s", url)
    on_listening(url)
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


@contextmanager
def _ending_by_name() -> Iterator[None]:
    """Raise what ended the service as it is: a task group wraps it."""
    try:
        yield
    except BaseExceptionGroup as group:
        ended, others = group.split((WritingEnded, CannotStart))
        if ended is None or others is not None:
            raise
        cause: BaseException = ended
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


@contextmanager
def _using_store(store: StoreConfig) -> Iterator[None]:
    try:
        with ExitStack() as sqlite:
            if store.path is not None:
                sqlite.enter_context(
                    opening_database(
                        store.path, "store.path", "the database of a control plane", _DAMAGED
                    )
                )
            with _using_plugin("the store"):
                yield
    except (DatabaseInUse, UnusableDatabase, NotReadable, StoreUnusable, Unreachable) as error:
        raise CannotStart("the database", str(error)) from error
    except (DamagedRow, DecodeError, TransitionError) as error:
        advice = (
            f'"nixfleet log verify {store.argument}" tells whether the log was altered; {_DAMAGED}'
        )
        raise CannotStart("the database", f"{store.where}: {error}; {advice}") from error
    except NixfleetError:
        raise
    except Exception as error:
        if not store.plugin.distribution:
            raise  # A fault of our own is no fault of the store.
        failed = store.plugin.failed("what it has to be loaded", error)
        raise CannotStart("the store", str(failed)) from error


@contextmanager
def _using_plugin(what: str) -> Iterator[None]:
    try:
        yield
    except (PluginUnusable, TransportUnusable) as error:
        raise CannotStart(what, str(error)) from error


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


def _url(parts: _Parts) -> str:
    listen = parts.config.listen
    scheme = "http" if listen.tls is None else "https"
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"{scheme}://{host}:{parts.listener.getsockname()[1]}"
