"""Two shards in one process, as a control plane hosts them: real services, stores and tasks."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

from attrs import frozen

from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.hosting.hosting import hosting
from nixfleet_control_plane.hosting.sharded_queries import ShardedQueries
from nixfleet_control_plane.hosting.sharded_service import ShardedService
from nixfleet_control_plane.messages.log_entry import Line
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.opened_store import OpenedStore
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeTopologyDeclared,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.shards.shard_map import ShardMap, ShardPlace
from tests.engines.releases import START, Publisher
from tests.shards.two_shards import SHARDS

WITHIN_SECONDS = 10


@frozen
class Hosted:
    """A control plane with shards. directory: has the database of each, by name."""

    service: ShardedService
    queries: ShardedQueries
    clock: FakeClock
    ci: Publisher
    directory: Path

    def logged(self, name: str) -> list[Line]:
        """Return the lines of a shard\'s log, after checking its chain and views."""
        with closing(open_for_reading(self.directory / f"{name}.sqlite")) as connection:
            assert check_chain(connection).problem is None
            assert check_views(connection).differences == ()
            return [logged.entry for logged in log_entries(connection)]

    async def tell(self, hostname: str, rollout_id: str, *facts: AgentEvent) -> EventsOutcome:
        envelopes = tuple(AgentEventEnvelope(hostname, rollout_id, fact) for fact in facts)
        return await self.service.take_events(hostname, envelopes)

    async def converge(self, hostname: str, rollout_id: RolloutId) -> None:
        """Let a host that is dispatched come to Converged."""
        dispatch = await self.service.next_dispatch(hostname, 0)
        assert dispatch is not None
        assert dispatch.rollout_id == rollout_id
        now, target = self.clock.now(), dispatch.target_closure
        outcome = await self.tell(
            hostname,
            rollout_id,
            DispatchAck("before", now, 1),
            ActivationStarted(now, "directory", 2),
            ActivationCompleted(target, 0, now, 3),
            ProbeTopologyDeclared((), now, 4),
            Converged(now, target, 5),
        )
        assert outcome == EventsOutcome(5), outcome


@asynccontextmanager
async def hosted(
    directory: Path, ci: Publisher, shards: ShardMap = SHARDS
) -> AsyncIterator[Hosted]:
    """Host these shards on databases in `directory`, which may have been there before."""
    clock = FakeClock(START)
    opened = {
        name: OpenedStore(
            ThreadedStore(SqliteStore(directory / f"{name}.sqlite")),
            SqliteQueries(directory / f"{name}.sqlite"),
        )
        for name in shards.all_names
    }

    def run(store: Store, place: ShardPlace) -> AbstractAsyncContextManager[ControlPlaneService]:
        return running(store, clock, trust=ci.trust, place=place)

    try:
        async with hosting(shards, opened, run, clock) as service:
            queries = ShardedQueries(shards, {name: each.queries for name, each in opened.items()})
            yield Hosted(service, queries, clock, ci, directory)
    finally:
        for each in opened.values():
            await each.store.close()
