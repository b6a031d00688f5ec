"""An agent that dies at every single step of a rollout and a rollback, and what must hold when it is back.

No fact is lost or told twice, numbers go on, every switch takes effect once, and the way back leads to where the
host was. The same with the control plane's database gone at that moment, with both restarted, and with the
agent's own disk replaced.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import Converged, DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.crashing_fleet import (
    BAD,
    BEFORE,
    GOOD,
    HOST,
    R1,
    R2,
    TWO_ATTEMPTS,
    CrashingFleet,
    Fuse,
)

Accident = Callable[[CrashingFleet], None]
SHARDS = 4


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many steps the story has when nothing happens."""
    fleet = CrashingFleet(tmp_path_factory.mktemp("dry") / "run", Fuse())
    fleet.tell_story()
    fleet.close()
    return fleet.fuse.passed


def every_accident(
    directory: Path, points: range, accident: Accident
) -> Iterator[tuple[CrashingFleet, int]]:
    """Tell the story once for each point at which the agent dies, and yield how it ended."""
    for point in points:
        fleet = CrashingFleet(directory / str(point), Fuse(point), accident)
        fleet.tell_story()
        assert fleet.fuse.passed >= point, "it did not die"
        yield fleet, point
        fleet.close()


def require_whole_history(fleet: CrashingFleet, rollout_id: RolloutId, point: int) -> None:
    """Every fact is there once, in order, and both sides say the same of the host."""
    seqs = [fact.seq for fact in fleet.reported(rollout_id)]
    assert seqs == list(range(1, len(seqs) + 1)), (point, rollout_id, seqs)
    there, here = fleet.mirrored(rollout_id, HOST), fleet.host.record(rollout_id)
    assert timeless(there) == timeless(here), (point, rollout_id)


def timeless(record: HostRolloutState) -> HostRolloutState:
    """A control plane that lost its database does not know any more when it dispatched, and trusts the host."""
    return evolve(record, dispatched_at=None, soak_due_at=None)


def require_story(fleet: CrashingFleet, point: int) -> None:
    """It ended as it does when nobody dies."""
    for rollout_id in (R1, R2):
        require_whole_history(fleet, rollout_id, point)
        assert fleet.mirrored(rollout_id, HOST) == fleet.host.record(rollout_id), point
        acks = [it for it in fleet.reported(rollout_id) if isinstance(it, DispatchAck)]
        prior = {R1: BEFORE, R2: GOOD}[rollout_id]
        assert [ack.current_closure_at_dispatch for ack in acks] == [prior], point
    assert fleet.host.record(R1).state is HostState.CONVERGED, point
    assert fleet.host.record(R2).state is HostState.REVERTED, point
    assert fleet.host.switched == [GOOD, BAD, GOOD], (point, fleet.host.switched)
    assert fleet.host.journal.unsent(1) == (), point


def test_the_story_without_an_accident_has_steps_enough(steps: int, tmp_path: Path) -> None:
    """It is worth dying in: it goes through every kind of step."""
    fleet = CrashingFleet(tmp_path / "run", Fuse())
    fleet.tell_story()
    require_story(fleet, 0)
    fleet.close()
    assert steps > 80


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_step_loses_nothing_and_repeats_nothing(
    shard: int, steps: int, tmp_path: Path
) -> None:
    """The agent starts again on its journal, and the story ends as if nothing had happened."""
    points = range(1 + shard, steps + 1, SHARDS)
    for fleet, point in every_accident(tmp_path, points, lambda it: it.host.restart()):
        require_story(fleet, point)


@pytest.fixture(scope="module")
def steps_of_attempts(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many steps two attempts have when nothing happens."""
    fleet = CrashingFleet(tmp_path_factory.mktemp("dry") / "run", Fuse(), layout=TWO_ATTEMPTS)
    fleet.tell_story_of_attempts()
    fleet.close()
    return fleet.fuse.passed


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_at_any_step_of_two_attempts_loses_nothing_and_adds_none(
    shard: int, steps_of_attempts: int, tmp_path: Path
) -> None:
    """The host tries twice, as often as was signed, and comes back twice."""
    for point in range(1 + shard, steps_of_attempts + 1, SHARDS):
        fleet = CrashingFleet(tmp_path / str(point), Fuse(point), layout=TWO_ATTEMPTS)
        fleet.tell_story_of_attempts()
        assert fleet.fuse.passed >= point, "it did not die"
        require_whole_history(fleet, R2, point)
        acks = [it for it in fleet.reported(R2) if isinstance(it, DispatchAck)]
        assert [ack.attempt_number for ack in acks] == [1, 2], point
        assert {ack.current_closure_at_dispatch for ack in acks} == {GOOD}, point
        assert fleet.host.switched == [BAD, GOOD, BAD, GOOD], (point, fleet.host.switched)
        fleet.close()


def both_restarted(fleet: CrashingFleet) -> None:
    fleet.restart_control_plane()
    fleet.host.restart()


def test_a_death_of_both_sides_at_once_loses_nothing(steps: int, tmp_path: Path) -> None:
    """Each goes on from what it had made durable."""
    for fleet, point in every_accident(tmp_path, range(1, steps + 1, 5), both_restarted):
        require_story(fleet, point)


def database_lost(fleet: CrashingFleet) -> None:
    """The control plane's database is deleted, and CI's release of the day is read again."""
    latest = fleet.released[max(fleet.released)]
    fleet.destroy_control_plane()
    fleet.offer(latest)
    fleet.host.restart()


def test_a_control_plane_that_lost_its_database_has_the_whole_history_again(
    steps: int, tmp_path: Path
) -> None:
    """The rollout under way is replayed from its first fact, and ends by the soak window that it had."""
    for fleet, point in every_accident(tmp_path, range(1, steps + 1, 5), database_lost):
        require_whole_history(fleet, R2, point)
        assert fleet.host.record(R2).state is HostState.REVERTED, point
        assert fleet.host.switched == [GOOD, BAD, GOOD], point
        if R1 in fleet.state.view.rollouts:
            require_whole_history(fleet, R1, point)


def test_a_convergence_that_is_replayed_is_judged_by_the_soak_window_it_had(
    tmp_path: Path,
) -> None:
    """An hour later the database is deleted: what converged then has converged, at the time that it did."""
    fleet = CrashingFleet(tmp_path / "run", Fuse())
    fleet.publish("r1")
    fleet.until_terminal(R1)
    before = fleet.host.record(R1)
    fleet.wait(minutes=60)
    fleet.destroy_control_plane()
    fleet.offer(fleet.ci.signed_again(fleet.released[R1], fleet.now))
    fleet.until_terminal(R1)
    mirrored = fleet.mirrored(R1, HOST)
    assert mirrored.state is HostState.CONVERGED
    assert mirrored.converged_at == before.converged_at
    assert [type(fact) for fact in fleet.reported(R1)][-1] is Converged
    assert fleet.host.switched == [GOOD]
    fleet.close()


def disk_replaced(fleet: CrashingFleet) -> None:
    fleet.host.replace_disk()


def test_an_agent_whose_disk_was_replaced_goes_on_where_the_control_plane_left_it(
    steps: int, tmp_path: Path
) -> None:
    """Numbers go on without a gap, both sides agree, and the machine only ever ran what was signed for it.

    What had not been sent is lost with the disk. A rollback whose target only the control plane can name is not
    begun: the host stays Failed.
    """
    for fleet, point in every_accident(tmp_path, range(1, steps + 1, 5), disk_replaced):
        require_whole_history(fleet, R2, point)
        assert fleet.rollout(R2).state in (RolloutState.FAILED, RolloutState.REVERTED), point
        assert set(fleet.host.switched) <= {GOOD, BAD}, point
