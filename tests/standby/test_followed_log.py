"""A standby knows what a start would know, and notices when the log has become another one."""

import pytest
from attrs import evolve

from nixfleet_control_plane.leadership.shared_store import LogForked, SharedStore, TakenStore
from nixfleet_control_plane.leadership.warm_state import WarmState, loaded_warm
from nixfleet_control_plane.service import running
from nixfleet_postgres.sharing import open_share
from nixfleet_postgres.target import Target
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.kernel.write_failures import OwnershipLost
from nixfleet_testing.contracts.store_cases import row
from tests.engines.releases import Layout, Publisher
from tools.postgres.server import Server

pytestmark = pytest.mark.anyio

CLOCK = SystemClock()


async def _taken(share: SharedStore) -> TakenStore:
    taken = await share.take(evolve(await share.look(), is_abandoned=True), "https://some")
    assert taken is not None
    return taken


async def _published(taken: TakenStore, *channel_refs: str) -> None:
    publisher = Publisher()
    async with running(taken.store, CLOCK, trust=publisher.trust) as service:
        for channel_ref in channel_refs:
            await service.publish(publisher.release(Layout(), channel_ref, CLOCK.now()))


def _knows(warm: WarmState) -> tuple[object, ...]:
    state = warm.state
    rollouts = dict(state.view.rollouts.items())
    return (
        warm.head,
        state.head_seq,
        rollouts,
        [record for each in rollouts for record in state.view.hosts_of(each)],
        dict(state.dispatches.items()),
        dict(state.deferrals.items()),
        dict(state.quarantines.items()),
        {name: each.artefact for name, each in state.manifests.items()},
    )


async def test_a_standby_that_followed_knows_what_a_start_would(target: Target) -> None:
    """Rollouts, hosts, dispatches, what is held, and what is in force; also read from the log alone."""
    async with open_share(target, 60.0) as leader, open_share(target, 60.0) as standby:
        warm = await loaded_warm(standby)
        await _published(await _taken(leader), "r1", "r2")
        await warm.catch_up(standby)
        assert warm.state.view.rollouts
        assert _knows(warm) == _knows(await loaded_warm(standby))


async def test_a_promoted_replica_that_lacks_rows_is_noticed_by_leader_and_standby(
    target: Target, server: Server
) -> None:
    """The leader is refused its next commit, and the standby the next rows; what is read anew is what is there."""
    async with open_share(target, 60.0) as leader, open_share(target, 60.0) as standby:
        taken = await _taken(leader)
        await _published(taken, "r1", "r2")
        warm = await loaded_warm(standby)
        head_seq = warm.head.seq

        admin = await server.connect()
        await admin.execute(f'SET search_path = "{target.schema}"')
        await admin.execute("SET session_replication_role = replica")  # triggers keep the log whole
        for table in ("host_rollout_records", "host_records_through"):
            await admin.execute(f"DELETE FROM {table}")
        await admin.execute("DELETE FROM event_log WHERE seq = $1", head_seq)
        await admin.execute(
            "UPDATE shards SET (head_seq, head_hash) = (SELECT seq, hash FROM event_log ORDER BY seq DESC LIMIT 1)"
        )
        await admin.close()

        with pytest.raises(OwnershipLost):
            await taken.store.commit([row(head_seq + 1)])
        with pytest.raises(LogForked, match=f"expected row {head_seq}, hash .*, found none"):
            await warm.catch_up(standby)
        assert (await standby.snapshot(from_log=True)).head.seq == head_seq - 1
