"""One process with two shards: every call goes where it belongs, and the edge between them is told by itself."""

import inspect
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_control_plane.hosting.hosting import ChannelsMoved, MovedChannel
from nixfleet_control_plane.hosting.sharded_service import ShardedService
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ListsUpdated,
    ManifestsUpdated,
    PauseScope,
    RetireQuarantine,
    SeeChannel,
    SeeEnrollment,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost
from nixfleet_control_plane.messages.log_entry import Commanded, EnrollmentSeen, Followed
from nixfleet_control_plane.releases.scan import ReleaseScanner
from nixfleet_control_plane.releases.watcher import ReleaseWatcher
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.fleet import DisruptionBudget, FleetHost, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import Operator, OperatorRole
from nixfleet_proto.wire import AgentEventEnvelope, SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.releases.directory import Release
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, ReplayFrom
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.scope import FleetScope, HostScope, RolloutScope
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap
from tests.engines.releases import OPERATOR_KEY, START, Publisher, token_for
from tests.shards.hosted import WITHIN_SECONDS, Hosted, hosted
from tests.shards.two_shards import DB, WEB, release_of

pytestmark = pytest.mark.anyio

DB1, WEB1 = RolloutId.of(DB, "r1"), RolloutId.of(WEB, "r1")
ADA = Operator("ada", OPERATOR_KEY.public_key, OperatorRole.OPERATE)
KEY = SigningKey.generate()


@pytest.fixture
def ci() -> Publisher:
    return Publisher()


async def _dispatched(fleet: Hosted, hostname: str) -> str:
    with anyio.fail_after(WITHIN_SECONDS):
        dispatch = await fleet.service.next_dispatch(hostname, WITHIN_SECONDS)
    assert dispatch is not None
    return dispatch.rollout_id


async def _never(word: SeeChannel | SeeEnrollment) -> None:
    await anyio.sleep_forever()


def test_each_call_of_a_service_is_one_over_all_shards() -> None:
    """What is not overridden would ask an engine that is not there."""
    calls = {
        name
        for name, each in vars(ControlPlaneService).items()
        if not name.startswith("_") and (inspect.isfunction(each) or isinstance(each, property))
    }
    # Of one shard alone: the tasks that run it, and what the host of shards asks of each.
    calls -= {"run_mutator", "tick_every", "follow", "word_on", "channels_with_words"}
    calls -= {"moved_channels", "newest_release_at", "fleets_in_force", "as_shard", "knows"}
    assert calls <= vars(ShardedService).keys(), calls - vars(ShardedService).keys()


async def test_a_release_is_in_force_in_both_shards_after_one_poll(
    tmp_path: Path, ci: Publisher
) -> None:
    """The follower is offered it again once the other shard has it, and its log says what it saw."""
    async with hosted(tmp_path, ci) as fleet:
        outcome = await fleet.service.publish(release_of(ci, "r1"))
        assert (set(outcome.taken), outcome.refused, outcome.waiting) == ({DB1, WEB1}, (), ())
        assert [each.channel for each in fleet.service.in_force()] == [DB, WEB]
    seen = [each.seen for each in fleet.logged(MAIN) if isinstance(each, Followed)]
    words = [(it.offered_rollout_id, it.done) for it in seen if isinstance(it, ChannelSeen)]
    assert words == [(None, False), (DB1, False)]


async def test_a_follower_begins_when_the_other_shard_is_done_without_being_asked(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        assert await fleet.service.next_dispatch("web-1", 0) is None
        (waiting,) = (await fleet.service.explain("web-1")).blocks[WEB1]
        assert waiting.gate is Gate.CHANNEL_EDGES
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_dispatched, fleet, "web-1")
            await fleet.converge("db-1", DB1)
        await fleet.converge("web-1", WEB1)
        await fleet.converge("web-2", WEB1)
        states = {it.rollout_id: it.state for it in await fleet.queries.rollouts()}
        assert states == {DB1: RolloutState.TERMINAL, WEB1: RolloutState.TERMINAL}
    assert fleet.logged("data")


async def test_after_a_restart_a_word_that_was_not_told_is_told(
    tmp_path: Path, ci: Publisher
) -> None:
    """The process ended between the commit of one shard and that of the other."""
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        await fleet.service.logs["data"].service.next_dispatch("db-1", 0)
    async with hosted(tmp_path, ci, ShardMap.of({"data": (DB,)})) as fleet:
        main = fleet.service.logs[MAIN].service
        main.follow = _never  # type: ignore[method-assign]
        await fleet.converge("db-1", DB1)
        assert await fleet.service.next_dispatch("web-1", 0) is None
    async with hosted(tmp_path, ci) as fleet:
        assert await _dispatched(fleet, "web-1") == WEB1


async def test_a_release_that_would_join_shards_is_refused_by_both(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        budgets = (DisruptionBudget(Selector(all=True), 1),)
        outcome = await fleet.service.publish(release_of(ci, "r1", budgets))
        assert {id_ for id_, _ in outcome.refused} == {DB1, WEB1}
        assert outcome.taken == ()


async def test_a_follower_waits_while_the_other_shard_refuses_the_release(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        await fleet.service.publish(release_of(ci, "r2"))
        again = release_of(ci, "r3")
        back = release_of(ci, "r1")
        mixed = ManifestsUpdated(again.fleet, again.manifests[1:], frozenset((DB, WEB)))
        assert (await fleet.service.publish(back)).refused
        ((rollout_id, why),) = (await fleet.service.publish(mixed)).waiting
        assert rollout_id == RolloutId.of(WEB, "r3")
        assert "channel db of shard data" in why


async def test_a_release_that_waits_is_offered_at_every_poll_and_shown_until_it_is_in_force(
    tmp_path: Path, ci: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """The other shard refuses its manifest of a ref that was superseded; the next release has a new one."""
    directory = tmp_path / "releases"
    directory.mkdir()
    async with hosted(tmp_path, ci) as fleet:
        scanner = ReleaseScanner(ci.trust, None)
        watcher = ReleaseWatcher(fleet.service, directory, scanner, fleet.clock)
        for ref in ("r1", "r2"):
            await fleet.service.publish(release_of(ci, ref))
        third = release_of(ci, "r3")
        old = evolve(
            release_of(ci, "r1").manifests[0].value, fleet_resolved_hash=third.fleet.artefact_hash
        )
        _save(directory, evolve(third, manifests=(ci.manifest(old, START), third.manifests[1])))
        for _ in range(2):
            await watcher.poll()
        shown = {it.name: it.reason for it in fleet.service.standing().refused}
        assert "was superseded" in shown["rollouts/db@r1.json"]
        assert "waits until channel db" in shown["rollouts/web@r3.json"]
        assert caplog.text.count("waits until channel db") == 1
        _save(directory, third)
        await watcher.poll()
        assert fleet.service.standing().refused == ()
        assert RolloutId.of(WEB, "r3") in fleet.service.shown_rollouts()


async def test_a_word_that_could_not_be_written_is_told_again(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        main = fleet.service.logs[MAIN].service
        follow, asked = main.follow, anyio.Event()

        async def fail(word: SeeChannel | SeeEnrollment) -> None:
            asked.set()
            raise WriteFailed("disk full")

        main.follow = fail  # type: ignore[method-assign]
        await fleet.converge("db-1", DB1)
        with anyio.fail_after(WITHIN_SECONDS):
            await asked.wait()
        assert await fleet.service.next_dispatch("web-1", 0) is None
        main.follow = follow  # type: ignore[method-assign]
        with anyio.fail_after(WITHIN_SECONDS):
            while await fleet.service.next_dispatch("web-1", 0) is None:
                fleet.clock.advance(5)
                await anyio.lowlevel.checkpoint()


def _save(directory: Path, release: ManifestsUpdated) -> None:
    manifests = {
        it.value.rollout_id: SignedArtefact(it.artefact, it.signature) for it in release.manifests
    }
    fleet = SignedArtefact(release.fleet.artefact, release.fleet.signature)
    save_release(Release(fleet, FrozenMap(manifests)), directory)


async def test_commands_go_to_the_shard_of_their_rollout_or_channel(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        pause = PauseScope(RolloutScope(DB1), "ada", "smells odd")
        abort = AbortRollout(WEB1, "ada", "no more")
        for command in (pause, abort):
            assert (await fleet.service.command(command)).refusal is None
        unknown = RetireQuarantine(DB, "none", "ada", "why")
        assert (await fleet.service.command(unknown)).refusal is not None
    assert [it.command for it in fleet.logged("data") if isinstance(it, Commanded)] == [pause]
    assert [it.command for it in fleet.logged(MAIN) if isinstance(it, Commanded)] == [abort]


@pytest.mark.parametrize(
    ("scope", "names"), [(FleetScope(), {"data", MAIN}), (HostScope("db-1"), {"data"})]
)
async def test_a_hold_on_the_fleet_or_a_host_is_in_every_log_that_knows_it_and_shown_once(
    tmp_path: Path, ci: Publisher, scope: FleetScope | HostScope, names: set[str]
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        command = PauseScope(scope, "ada", "smells odd")
        assert (await fleet.service.command(command)).refusal is None
        assert [hold.scope for hold in fleet.service.holds()] == [scope]
        assert await fleet.service.next_dispatch("db-1", 0) is None
    assert {name for name in ("data", MAIN) if Commanded(command) in fleet.logged(name)} == names


async def test_an_enrollment_is_in_every_log_before_the_host_has_its_answer(
    tmp_path: Path, ci: Publisher
) -> None:
    token = token_for("db-1", KEY, START)
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish_lists(ListsUpdated(None, ci.nonces(START, token)))
        enrolled = await fleet.service.enroll(ci.enrollment(token, KEY))
        assert isinstance(enrolled, EnrolledHost)
        for log in fleet.service.logs.values():
            assert log.service.ring().enrolled == {"db-1": enrolled}
        assert fleet.service.ring().key_of("host:db-1") == KEY.public_key
        assert fleet.service.totals().enrolled == 1
    (seen,) = (it.seen for it in fleet.logged("data") if isinstance(it, Followed))
    assert isinstance(seen, EnrollmentSeen)


async def test_an_enrollment_that_one_shard_missed_is_told_at_the_next_start(
    tmp_path: Path, ci: Publisher
) -> None:
    token = token_for("db-1", KEY, START)
    async with hosted(tmp_path, ci) as fleet:
        main = fleet.service.logs[MAIN].service
        await main.publish_lists(ListsUpdated(None, ci.nonces(START, token)))
        await main.enroll(ci.enrollment(token, KEY))
        assert fleet.service.logs["data"].service.ring().enrolled == {}
    async with hosted(tmp_path, ci) as fleet:
        rings = [log.service.ring().enrolled for log in fleet.service.logs.values()]
        assert rings[0] == rings[1] != {}


async def test_keys_that_the_fleet_declares_are_those_of_the_newest_in_any_shard(
    tmp_path: Path, ci: Publisher
) -> None:
    """Main takes no fleet of a release that has nothing for it."""
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        whole = release_of(ci, "r2", channels=(DB,))
        value = whole.fleet.value
        keyed = FleetHost(DB, closure_hash="r2-db-1", pubkey=KEY.public_key.public_key)
        later = START + timedelta(minutes=1)
        value = evolve(
            value,
            hosts=value.hosts.with_item("db-1", keyed),
            meta=evolve(value.meta, signed_at=later),
        )
        signed = ci.fleet(value, later)
        manifest = evolve(
            whole.manifests[0].value,
            fleet_resolved_hash=signed.artefact_hash,
            meta=evolve(whole.manifests[0].value.meta, signed_at=later),
        )
        fleet.clock.advance(60)
        await fleet.service.publish(ManifestsUpdated(signed, (ci.manifest(manifest, later),)))
        assert fleet.service.ring().fleet_keys == FrozenMap({"db-1": KEY.public_key})
        overview = fleet.service.overview(ADA, 0)
        assert overview.fleet.declared == 1


async def test_a_heartbeat_is_answered_over_all_shards(tmp_path: Path, ci: Publisher) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        seqs = FrozenMap({DB1: 3, "web@r0": 2, "nonsense": 1})
        reply = await fleet.service.compare("db-1", Heartbeat("db-1", "any", seqs))
        assert reply.replay_from == (ReplayFrom(DB1, 1),)
        assert reply.resting == ("nonsense", "web@r0")
        assert reply.release is not None
        assert reply.release.rollout_id == DB1


async def test_a_host_that_changed_its_channel_reports_to_both_shards(
    tmp_path: Path, ci: Publisher
) -> None:
    """In the order in which it tells, and up to the first event that is stopped."""
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        ack = DispatchAck("before", START, 1)
        gap = evolve(ack, seq=3)
        events = [
            AgentEventEnvelope("db-1", DB1, ack),
            AgentEventEnvelope("db-1", "web@r0", ack),
            AgentEventEnvelope("db-1", DB1, gap),
        ]
        outcome = await fleet.service.take_events("db-1", tuple(events))
        assert outcome.accepted == 1
        assert outcome.stopped_by is not None
        assert await fleet.service.take_events("db-1", ()) == EventsOutcome(0)


async def test_a_poll_ends_when_its_client_is_gone_and_when_the_control_plane_closes(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        with anyio.fail_after(WITHIN_SECONDS):
            gone = anyio.lowlevel.checkpoint
            assert await fleet.service.next_dispatch("db-1", 60, gone) is None
            assert fleet.service.waiting_polls == 0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fleet.service.next_dispatch, "db-1", 60)
                while fleet.service.waiting_polls < 2:
                    await anyio.lowlevel.checkpoint()
                fleet.service.begin_closing()
        assert fleet.service.is_closing


async def test_lists_go_over_all_shards_page_by_page(tmp_path: Path, ci: Publisher) -> None:
    async with hosted(tmp_path, ci) as fleet:
        for ref in ("r1", "r2"):
            await fleet.service.publish(release_of(ci, ref))
        after, found = 0, list[str]()
        while page := await fleet.queries.rollouts(after_seq=after, limit=1):
            found += [record.rollout_id for record in page]
            after = page[-1].opened_event_log_seq
        assert found == ["web@r1", "web@r2", "db@r1", "db@r2"]
        whole = await fleet.queries.rollouts()
        assert [record.rollout_id for record in whole] == found
        place, hosts = None, list[tuple[str, str]]()
        while (records := (await fleet.service.host_records(place, 1)).records) != ():
            place = records[-1].rollout_id, records[-1].hostname
            hosts.append(place)
        assert hosts == sorted(hosts)
        assert {host for _, host in hosts} == {"db-1", "web-1", "web-2"}
        held = await fleet.queries.deferrals(limit=1)
        assert [it.hostname for it in held] == ["web-1"]
        assert [row.rollout_id for row in await fleet.queries.log_rows(DB1, after_seq=0, limit=1)]


async def test_the_overview_has_the_rollouts_of_all_shards_and_one_alone(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        assert [it.rollout_id for it in fleet.service.overview(ADA, 0).rollouts] == [DB1, WEB1]
        (only,) = fleet.service.overview(ADA, 0, DB1).rollouts
        assert only.rollout_id == DB1
        assert fleet.service.shown_rollouts() == {DB1, WEB1}
        before = fleet.service.version
        await fleet.service.command(PauseScope(RolloutScope(DB1), "ada", "why"))
        assert fleet.service.version != before
        shards = {it.name: it.channels for it in fleet.service.shards()}
        assert shards == {MAIN: (WEB,), "data": (DB,)}


async def test_a_host_is_explained_by_the_shards_that_know_it(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
        status = (await fleet.service.explain("db-1")).status
        assert status is not None
        assert (status.channel, [it.rollout_id for it in status.rollouts]) == (DB, [DB1])
        unknown = await fleet.service.explain("db-7")
        assert unknown.status is None
        assert set(unknown.known) == {"db-1", "web-1", "web-2"}


async def test_a_start_is_refused_when_a_channel_was_moved_while_it_has_rollouts(
    tmp_path: Path, ci: Publisher
) -> None:
    async with hosted(tmp_path, ci) as fleet:
        await fleet.service.publish(release_of(ci, "r1"))
    with pytest.raises(ChannelsMoved) as refused:
        async with hosted(tmp_path, ci, ShardMap.of({"data": (DB, WEB)})):
            pass
    assert refused.value.moved == (MovedChannel(WEB, MAIN, "data"),)
    assert "web of shard main, now in data" in str(refused.value)
    assert "put them back" in str(refused.value)
