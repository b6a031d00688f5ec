"""What a control plane runs while it serves: the service, its workers, and the application in front of it.

A control plane that has its store alone serves from its start to its end; one that shares it serves while it leads.
Source: docs/spec/runtimes.md, Control plane.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
from attrs import define, field, frozen
from starlette.types import ASGIApp

import nixfleet
from nixfleet_control_plane.config import ControlPlaneConfig, LimitsConfig
from nixfleet_control_plane.config_judges import JudgeConfig
from nixfleet_control_plane.config_shards import stores_of
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.retention.gauges import register_retention_gauges
from nixfleet_control_plane.history.retention.keeper import LogKeeper
from nixfleet_control_plane.history.retention.worker import RetentionWorker
from nixfleet_control_plane.hosting.starting import forecaster_of, hosted
from nixfleet_control_plane.http.answers import Refusal
from nixfleet_control_plane.http.app import make_app, shutting_down
from nixfleet_control_plane.http.earlier_commands import earlier_commands
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.judges.http_judges import judge_of
from nixfleet_control_plane.judges.worker import JudgeWorker
from nixfleet_control_plane.observability.gauges import register_gauges, register_shard_gauges
from nixfleet_control_plane.observability.overview_gauges import register_overview_gauges
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.releases.scan import ReleaseScanner
from nixfleet_control_plane.releases.watcher import ReleaseWatcher
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.starting import CannotStart, using_plugin, using_store
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.opened_store import OpenedStore
from nixfleet_control_plane.store.store import Store
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.kernel.visible import visible
from nixfleet_runtime.process import garbage
from nixfleet_runtime.process.service_manager import Watchdog
from nixfleet_state_machine.shards.shard_map import MAIN, ONLY, ShardPlace


@define
class TrustInForce:
    """The trust root that was read last. use: given each new one while a control plane serves."""

    root: TrustRoot
    use: Callable[[TrustRoot], None] = lambda _: None

    def take(self, root: TrustRoot) -> None:
        """Use another root from now on."""
        self.root = root
        self.use(root)


@frozen
class Ground:
    """What a control plane stands on, whether it serves or not.

    keeper: what drops old rows, if the store can. shards: the stores of those beside `main`, by name.
    """

    config: ControlPlaneConfig
    clock: Clock
    trust: TrustInForce
    queries: Queries
    keeper: LogKeeper | None = None
    shards: Mapping[str, OpenedStore] = FrozenMap()
    watchdog: Watchdog = field(factory=Watchdog)


@frozen
class Led:
    """What one that shares its store begins with. state: what the store has. is_current, url: as for `running`.

    on_closing: what is answered once it serves no more. register: adds metrics of its own.
    """

    state: State
    is_current: Callable[[], bool]
    url: str
    on_closing: Callable[[], Refusal]
    register: Callable[[Metrics], None]


@frozen
class Serving:
    """A control plane that serves."""

    service: ControlPlaneService
    app: ASGIApp
    metrics: Metrics


@asynccontextmanager
async def serving(ground: Ground, store: Store, led: Led | None = None) -> AsyncIterator[Serving]:
    """Serve on `store` while the context is open. led: of one that shares it.

    Raises: CannotStart; WritingEnded, when the store can be written no more.
    """
    config, clock, metrics = ground.config, ground.clock, Metrics()
    retention = retention_of(ground)
    garbage.collect_rarely()

    def on_batch(length: int) -> None:
        metrics.observe_batch(length)
        ground.watchdog.beat(length)

    def run(
        opened: Store, place: ShardPlace = ONLY
    ) -> AbstractAsyncContextManager[ControlPlaneService]:
        return running(
            opened,
            clock,
            trust=ground.trust.root,
            tick_seconds=config.ticks.plan_seconds,
            queue_length_max=config.limits.queue_length_max,
            write_seconds_max=stores_of(config.store, config.shards)[place.name].write_seconds_max,
            record_metric=metrics.record,
            on_batch=on_batch,
            freshness_limit_minutes=config.trust.freshness_window_minutes,
            state=None if led is None else led.state,
            is_current=_always if led is None else led.is_current,
            url=None if led is None else led.url,
            place=place,
        )

    async with AsyncExitStack() as held:
        with using_store(config.store):
            earlier = await earlier_commands(ground.queries, SystemClock().now())
            service = await held.enter_async_context(
                hosted(
                    config, {MAIN: OpenedStore(store, ground.queries), **ground.shards}, run, clock
                )
                if config.shards
                else run(store)
            )
        ground.watchdog.status = partial(_status_line, service)
        register_gauges(metrics, service, has_database_version=config.store.path is not None)
        register_overview_gauges(metrics, service)
        register_shard_gauges(metrics, service)
        if retention is not None:
            register_retention_gauges(metrics, retention, service)
        if led is not None:
            led.register(metrics)
        forecaster = await held.enter_async_context(forecaster_of(config, service))
        app = make_app(
            service,
            service.ring,
            ground.queries,
            SystemClock(),
            not_ready_because=partial(_not_ready_because, service),
            readiness_detail=partial(_readiness_detail, service),
            limits=limits_of(config.limits),
            metrics=metrics,
            earlier_commands=earlier,
            forecaster=forecaster,
            versions=versions_of(config.store),
            health_detail=tuple
            if retention is None
            else lambda: tuple(retention.lines(service.totals().head_seq)),
            on_closing=shutting_down if led is None else led.on_closing,
        )
        watcher = ReleaseWatcher(
            service,
            config.releases.directory,
            ReleaseScanner(ground.trust.root, config.trust.freshness_window_minutes),
            clock,
        )

        def use_trust(trust: TrustRoot) -> None:
            service.use_trust(trust)
            watcher.use_trust(trust)

        ground.trust.use = use_trust
        garbage.freeze()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watcher.run, config.releases.poll_seconds)
            if retention is not None:
                tasks.start_soon(retention.run)
            judges = {
                name: judge_of(judge) if isinstance(judge, JudgeConfig) else judge
                for name, judge in config.judges.items()
            }
            tasks.start_soon(JudgeWorker(service, judges, clock).run)
            async with AsyncExitStack() as transports:
                for transport in config.transports.values():
                    with using_plugin("the transport"):
                        await transports.enter_async_context(transport.serving(service, app))
                yield Serving(service, app, metrics)
            tasks.cancel_scope.cancel()


def _always() -> bool:
    return True


def retention_of(ground: Ground) -> RetentionWorker | None:
    """Return what drops old rows, if any are to be dropped. Raises: CannotStart, if the store cannot."""
    config, keeper = ground.config.retention, ground.keeper
    if config is None:
        return None
    if keeper is None:
        kind = ground.config.store.where
        raise CannotStart("retention", f"expected a store that drops old rows, found {kind}")
    return RetentionWorker(config, keeper, ground.clock)


def versions_of(store: StoreConfig) -> tuple[str, ...]:
    """Return the lines of `/healthz` that name the versions of the program and of its store."""
    return f"nixfleet {nixfleet.__version__}", _version_of(store)


def _version_of(store: StoreConfig) -> str:
    if store.path is None:
        of = f" of {store.plugin.distribution}" if store.plugin.distribution else ""
        return f"store {store.plugin.name}{of}"
    return f"database version {DATABASE_FORMAT.version}"


def limits_of(config: LimitsConfig) -> Limits:
    """Return the limits of the server and its application."""
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
