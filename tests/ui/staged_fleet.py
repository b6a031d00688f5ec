"""A fleet that goes through a rollout in a time of its own: for pictures and for measurements, at any size.

The control plane is the real one, served on loopback. Its hosts take what is dispatched, switch, soak and converge
after drawn durations; those that are to fail say why.
"""

import random
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import Final

import anyio.lowlevel
from attrs import Factory, define

from nixfleet_control_plane.forecaster import ForecastProcess, forecast_command
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    OnHealthFailure,
    ProbeTopologyDeclared,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http.client import signed_client
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_ui.app import Operator
from nixfleet_ui.serving import Served, listening_on, serving
from tests.engines.releases import OPERATOR_KEY, START, Layout, Publisher, rollout_id_of
from tests.support.served_control_plane import served
from tests.ui.living_fleet import BEFORE, TARGET, Fact

STDERR: Final = (
    "building the system configuration...\n"
    "activating the configuration...\n"
    "restarting the following units: nginx.service, postgresql.service\n"
    "Job for nginx.service failed because the control process exited with error code.\n"
    "nginx[2841]: nginx: [emerg] bind() to 0.0.0.0:443 failed (98: Address already in use)\n"
    "warning: the following units failed: nginx.service\n"
)
_STEP_SECONDS: Final = 5


@define
class StagedFleet:
    """A rollout on its stage. failing: the hosts whose switch fails."""

    service: ControlPlaneService
    queries: SqliteQueries
    clock: FakeClock
    layout: Layout
    rollout_id: RolloutId
    url: str
    failing: Collection[str] = ()
    _chance: random.Random = Factory(lambda: random.Random(7))
    _told: dict[str, int] = Factory(dict)
    _due: list[tuple[float, int, str, str]] = Factory(list)
    _seen: int = 0

    async def play(self, seconds: int) -> int:
        """Let so many seconds of the fleet's pass. Returns how many facts were taken."""
        taken = 0
        for _ in range(0, seconds, _STEP_SECONDS):
            self.clock.advance(_STEP_SECONDS)
            await self._settled()
            await self._notice()
            now = self.clock.now().timestamp()
            while self._due and self._due[0][0] <= now:
                _, _, hostname, stage = heappop(self._due)
                taken += await self._live(hostname, stage)
        return taken

    async def _settled(self) -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        while self.service.queue_length:
            await anyio.lowlevel.checkpoint()

    async def _notice(self) -> None:
        """See who was dispatched, as the log says."""
        while self._seen < self.service.feed.head:
            rows = await self.queries.log_rows(None, after_seq=self._seen, limit=500)
            for row in rows:
                if row.kind == "plan_action" and '"QueueDispatch"' in row.payload:
                    assert row.host_id is not None
                    self._plan(row.host_id, "acknowledge", self._chance.uniform(2, 25))
                self._seen = row.seq

    def _plan(self, hostname: str, stage: str, seconds: float) -> None:
        at = self.clock.now().timestamp() + seconds
        heappush(self._due, (at, len(self._told), hostname, stage))

    async def _live(self, hostname: str, stage: str) -> int:
        now, target = self.clock.now(), self.layout.closure or ""
        match stage:
            case "acknowledge":
                self._plan(hostname, "switch", self._chance.uniform(20, 80))
                return await self._tell(hostname, lambda seq: DispatchAck(BEFORE, now, seq))
            case "switch" if hostname in self.failing:
                self._plan(hostname, "revert", 20)
                return await self._tell(
                    hostname,
                    lambda seq: ActivationStarted(now, "systemd-run", seq),
                    lambda seq: ActivationFailed(4, STDERR, now, seq),
                )
            case "switch":
                soak = self.layout.soak_minutes * 60
                self._plan(hostname, "converge", soak + self._chance.uniform(5, 40))
                return await self._tell(
                    hostname,
                    lambda seq: ActivationStarted(now, "systemd-run", seq),
                    lambda seq: ActivationCompleted(target, 0, now, seq),
                    lambda seq: ProbeTopologyDeclared((), now, seq),
                )
            case "revert":
                return await self._tell(hostname, lambda seq: RollbackComplete(BEFORE, 0, now, seq))
            case _:
                return await self._tell(hostname, lambda seq: Converged(now, target, seq))

    async def _tell(self, hostname: str, *facts: Fact) -> int:
        first = self._told.get(hostname, 0) + 1
        events: tuple[AgentEvent, ...] = tuple(
            fact(first + index) for index, fact in enumerate(facts)
        )
        envelopes = tuple(AgentEventEnvelope(hostname, self.rollout_id, it) for it in events)
        outcome = await self.service.take_events(hostname, envelopes)
        if outcome.accepted == len(facts):
            self._told[hostname] = first + len(facts) - 1
            return len(facts)
        # What waits for a soak that has not passed here comes again.
        self._plan(hostname, "converge", 30)
        return 0


@asynccontextmanager
async def staged(
    directory: Path, layout: Layout, failing: Collection[str] = (), channel_ref: str = "r2"
) -> AsyncIterator[StagedFleet]:
    """Serve a control plane on which a release for `layout` has just begun. Its time is the stage's."""
    clock, publisher = FakeClock(START), Publisher()
    database = directory / "control-plane.sqlite"
    store = ThreadedStore(SqliteStore(database))
    limits = Limits()
    async with (
        running(store, clock, trust=publisher.trust) as service,
        ForecastProcess(
            forecast_command(database), lambda: service.feed.head, clock.now
        ) as forecaster,
    ):
        queries = SqliteQueries(database)
        app = make_app(service, service.ring, queries, clock, limits=limits, forecaster=forecaster)
        async with served(app, limits) as port:
            clock.advance(2)  # What was signed in the second of the start is refused.
            release = publisher.release(layout, channel_ref, clock.now())
            await service.publish(release)
            url = f"http://127.0.0.1:{port}"
            rollout_id = rollout_id_of(release)
            yield StagedFleet(service, queries, clock, layout, rollout_id, url, failing)
    await store.close()


@asynccontextmanager
async def page_of(fleet: StagedFleet, name: str = "ada") -> AsyncIterator[Served]:
    """Serve the page of an operator of the stage."""
    operator = Operator(name, OPERATOR_KEY, "https://fleet.example.org:8443")
    key_id = operator_key_id(name)
    async with (
        signed_client(fleet.url, key_id, OPERATOR_KEY, fleet.clock) as upstream,
        serving(operator, upstream, fleet.clock, "1.0", listening_on(0)) as page,
    ):
        yield page


def layout_of(*sizes: int, max_in_flight: int | None = None) -> Layout:
    """Return a fleet of servers in waves of these sizes, all with one closure."""
    kinds, waves, first = ("web", "db", "edge", "cache"), [], 1
    for size in sizes:
        names = (f"{kinds[i % 4]}-{i:05d}" for i in range(first, first + size))
        waves.append(tuple(names))
        first += size
    return Layout(
        tuple(waves),
        soak_minutes=5,
        closure=TARGET,
        max_in_flight=max_in_flight,
        on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT,
        author="ci",
    )
