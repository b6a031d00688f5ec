"""Two shards of one process, each in a schema of its own: words and enrollments are there after a restart."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_control_plane.hosting.hosting import hosting
from nixfleet_control_plane.hosting.shard_log import end_of
from nixfleet_control_plane.hosting.sharded_queries import ShardedQueries
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.store import Store
from nixfleet_postgres.plugin import PostgresOpener
from nixfleet_postgres.target import Target
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.shards.shard_map import MAIN, ShardPlace
from tests.engines.releases import START, Publisher
from tests.shards.hosted import WITHIN_SECONDS, Hosted
from tests.shards.two_shards import DB, SHARDS, WEB, release_of

pytestmark = pytest.mark.anyio

DB1, WEB1 = RolloutId.of(DB, "r1"), RolloutId.of(WEB, "r1")


@asynccontextmanager
async def _hosted(
    targets: Mapping[str, Target], ci: Publisher, directory: Path
) -> AsyncIterator[Hosted]:
    clock = FakeClock(START)

    def run(store: Store, place: ShardPlace) -> AbstractAsyncContextManager[ControlPlaneService]:
        return running(store, clock, trust=ci.trust, place=place)

    async with AsyncExitStack() as held:
        opened = {
            name: await held.enter_async_context(PostgresOpener(target)())
            for name, target in targets.items()
        }
        queries = {name: each.queries for name, each in opened.items()}
        async with hosting(SHARDS, opened, run, clock) as service:
            yield Hosted(service, ShardedQueries(SHARDS, queries), clock, ci, directory)
            for name, log in service.logs.items():
                seq, end = await end_of(queries[name])
                assert (log.end.seq, log.end.hash) == (seq, end.hex())


async def test_an_edge_between_two_schemas_goes_on_after_a_restart(
    target: Target, tmp_path: Path
) -> None:
    ci = Publisher()
    targets = {MAIN: target, "data": evolve(target, schema=f"{target.schema} data")}
    async with _hosted(targets, ci, tmp_path) as fleet:
        outcome = await fleet.service.publish(release_of(ci, "r1"))
        assert set(outcome.taken) == {DB1, WEB1}
        await fleet.converge("db-1", DB1)
    async with _hosted(targets, ci, tmp_path) as fleet:
        for hostname in ("web-1", "web-2"):
            with anyio.fail_after(WITHIN_SECONDS):
                assert await fleet.service.next_dispatch(hostname, WITHIN_SECONDS) is not None
            await fleet.converge(hostname, WEB1)
        states = {it.rollout_id: it.state for it in await fleet.queries.rollouts()}
        assert states == {DB1: RolloutState.TERMINAL, WEB1: RolloutState.TERMINAL}
        for log in fleet.service.logs.values():
            assert (await log.queries.verify()).problem is None
            assert (await log.queries.rebuild()).differences == ()
