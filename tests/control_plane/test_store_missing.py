"""A start on a database from which rows are gone: it says what is missing, holds what it must, and serves the rest."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest
from attrs import evolve

from nixfleet_control_plane.history.loading import load_state, state_of
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    ExcuseHosts,
    ExplainHost,
    Explanation,
    HostList,
    ListHosts,
    OperatorCommand,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import running
from nixfleet_control_plane.store.store import Snapshot
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import EventsOutcome, RolloutUnknown
from nixfleet_state_machine.planner.host_status import Outside
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost
from tests.support.threaded import threaded

MANIFEST = "DELETE FROM artefacts WHERE rollout_id = 'stable@r1'"
FLEET = "DELETE FROM artefacts WHERE rollout_id IS NULL AND event_log_seq = 1"
OTHER = Layout(waves=(("db-01",),), channel="edge")
STABLE, EDGE = RolloutId("stable@r1"), RolloutId("edge@r1")
EVERYTHING_OF_IT = ("DELETE FROM rollouts WHERE rollout_id = 'stable@r1'", MANIFEST)


@pytest.fixture
def fleet(control_plane: ScriptedControlPlane) -> ScriptedControlPlane:
    """Two channels: stable, whose canary has its dispatch, and edge, which has begun."""
    control_plane.publish("r1")
    control_plane.publish("r1", OTHER)
    ScriptedHost(control_plane, EDGE, "db-01").acknowledge()
    return control_plane


def _start_without(fleet: ScriptedControlPlane, *statements: str) -> None:
    fleet.close()
    with closing(sqlite3.connect(fleet.database)) as connection, connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
    fleet.start_control_plane()


LIES: dict[str, Callable[[Snapshot], Snapshot]] = {
    "a row of the tail is missing": lambda it: evolve(it, tail=[*it.tail][:3] + [*it.tail][4:]),
    "a row is there twice": lambda it: evolve(it, tail=[*it.tail, [*it.tail][-1]]),
    "the end is missing": lambda it: evolve(it, tail=[*it.tail][:-1]),
    "the head is too high": lambda it: evolve(it, head_seq=it.head_seq + 5),
    "the head is too low": lambda it: evolve(it, head_seq=it.head_seq - 1),
    "the tail begins too early": lambda it: evolve(it, cached_through=2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_snapshot_that_has_not_each_row_up_to_its_head_once_is_refused(
    lie: str, fleet: ScriptedControlPlane
) -> None:
    """A fact that was acknowledged would be missing, and nothing would say so."""
    snapshot = fleet.store.load().in_memory()
    state_of(snapshot)

    with pytest.raises(DamagedRow, match="expected "):
        state_of(LIES[lie](snapshot))


class _Forgetful:
    """A store that returns the same snapshot, whatever it is told."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def load(self) -> Snapshot:
        return self._snapshot

    def commit(self, writes: Sequence[Write]) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_log_from_which_no_record_follows_is_refused_by_name(
    fleet: ScriptedControlPlane,
) -> None:
    """Its first rows are gone, and so are the cached records; or records are cached beyond its end."""
    snapshot = fleet.store.load().in_memory()
    beheaded = evolve(snapshot, tail=[*snapshot.tail][-1:], hosts=())
    beyond = evolve(snapshot, cached_through=snapshot.head_seq + 9, tail=())

    for each in (beheaded, beyond):
        with pytest.raises(DamagedRow, match="to follow from the log, found one missing"):
            load_state(_Forgetful(each))


@pytest.mark.parametrize("statement", [MANIFEST, FLEET])
def test_a_rollout_without_its_manifest_is_held_and_the_rest_is_served(
    fleet: ScriptedControlPlane, statement: str
) -> None:
    """Its hosts keep their facts, operators are told, and the other channel goes on."""
    _start_without(fleet, statement)

    assert any("has no manifest of stable@r1" in each for each in fleet.state.left_out)
    assert fleet.rollout(STABLE).state is RolloutState.ACTIVE
    assert fleet.dispatch_of("web-01") is None
    ScriptedHost(fleet, EDGE, "db-01").finish()
    assert fleet.rollout(EDGE).state is RolloutState.TERMINAL
    host_list = fleet.ask_for(HostList, ListHosts(None, 10))
    assert [each.hostname for each in host_list.records] == ["db-01"]


def test_a_host_of_a_rollout_without_its_manifest_keeps_what_it_tells(
    fleet: ScriptedControlPlane,
) -> None:
    """It is told that the rollout is not known, as by a control plane that has not read its releases yet."""
    host = ScriptedHost(fleet, STABLE, "web-01")
    _start_without(fleet, MANIFEST)

    told = host.tell(lambda seq: DispatchAck("release-0", fleet.now, seq))

    assert told == EventsOutcome(0, RolloutUnknown(STABLE))
    explained = fleet.ask_for(Explanation, ExplainHost("web-02")).status
    assert explained is not None
    assert (explained.rollouts, explained.outside) == ((), Outside.LOST)


@pytest.mark.parametrize(
    "command",
    [
        ClearRollout(STABLE, "ada", "why"),
        ExcuseHosts(STABLE, frozenset({"web-01"}), "ada", "why"),
        SkipHosts(STABLE, frozenset({"web-01"}), "ada", "why"),
        RetryHosts(STABLE, frozenset(), "ada", "why"),
    ],
)
def test_a_command_about_a_rollout_without_its_manifest_is_refused_with_the_reason(
    fleet: ScriptedControlPlane, command: OperatorCommand
) -> None:
    """Nothing of its hosts can be judged."""
    _start_without(fleet, MANIFEST)

    refusal = fleet.command(command).refusal

    assert refusal == "stable@r1 is held: the database has no manifest of stable@r1"


def test_a_rollout_is_served_again_by_the_start_after_its_release_was_put_in_force_again(
    fleet: ScriptedControlPlane,
) -> None:
    """It is not opened a second time, and goes on where it was."""
    release = fleet.released[STABLE]
    _start_without(fleet, MANIFEST)
    assert fleet.offer(release).taken == (STABLE,)
    assert fleet.dispatch_of("web-01") is None

    fleet.restart_control_plane()

    assert fleet.state.left_out == ()
    ScriptedHost(fleet, STABLE, "web-01").finish()
    assert fleet.check_store().differences == ()


def test_a_rollout_without_its_manifest_gives_way_to_the_next_release(
    fleet: ScriptedControlPlane,
) -> None:
    """It is superseded and pruned as any other."""
    _start_without(fleet, MANIFEST)
    fleet.publish("r2")

    assert fleet.rollout(STABLE).state is RolloutState.SUPERSEDED
    assert fleet.dispatch_of("web-01") is not None
    fleet.wait(minutes=73 * 60)
    fleet.tick()
    assert STABLE not in fleet.state.view.rollouts


def test_rows_about_a_rollout_that_is_gone_are_left_out_by_name(
    fleet: ScriptedControlPlane,
) -> None:
    """A dispatch of no rollout is handed to nobody."""
    _start_without(fleet, *EVERYTHING_OF_IT)

    (left_out,) = fleet.state.left_out
    assert left_out == (
        "the dispatch of web-01 in stable@r1 is left out: the database has no rollout stable@r1"
    )
    assert fleet.dispatch_of("web-01") is None


def test_a_pruned_rollout_that_its_channel_names_does_not_end_a_list_of_hosts(
    fleet: ScriptedControlPlane,
) -> None:
    """Its record is left, so that it is not opened again, and it has no hosts."""
    for name in ("web-01", "web-02", "web-03"):
        ScriptedHost(fleet, STABLE, name).finish()
    fleet.wait(minutes=73 * 60)
    fleet.tick()
    for _ in range(2):
        assert fleet.rollout(STABLE).state is RolloutState.PRUNED
        host_list = fleet.ask_for(HostList, ListHosts(None, 10))
        assert [each.hostname for each in host_list.records] == ["db-01"]
        fleet.restart_control_plane()


def test_a_channel_that_waits_for_one_whose_manifest_is_gone_still_waits(
    control_plane: ScriptedControlPlane,
) -> None:
    """What is not known to be done is not done."""
    control_plane.publish("r1")
    control_plane.publish("r1", evolve(OTHER, after=("stable",)))
    assert control_plane.dispatch_of("db-01") is None
    _start_without(control_plane, MANIFEST)

    control_plane.tick()

    assert control_plane.dispatch_of("db-01") is None


@pytest.mark.anyio
async def test_a_service_says_in_its_log_and_to_operators_what_its_start_left_out(
    fleet: ScriptedControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    """With what follows, and what can be done."""
    _start_without(fleet, MANIFEST)

    async with (
        threaded(fleet.store) as store,
        running(store, FakeClock(fleet.now)) as service,
    ):
        (left_out, dispatch) = service.standing().left_out

    assert left_out.startswith("the database has no manifest of stable@r1: nothing is dispatched")
    assert "restart the control plane once its release is in force again" in left_out
    assert dispatch.startswith("the dispatch of web-01 in stable@r1 is left out")
    assert left_out in caplog.text
