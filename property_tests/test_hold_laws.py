"""Laws of holds: of every scope and source, and of edges that are in the log.

Source: docs/spec/holds.md, Laws.
"""

from contextlib import closing
from copy import deepcopy
from datetime import timedelta, timezone

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_state_machine.planner.action import QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_testing.strategies import fleet_views
from nixfleet_testing.strategies.calendars import calendars
from nixfleet_testing.strategies.holds import holds
from nixfleet_testing.strategies.names import START
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory

some_holds = holds().filter(lambda hold: hold.source.kind is not HoldKind.NOT_BEFORE)


def _dispatched(view: FleetView) -> set[tuple[str, str]]:
    actions = plan_next(view, {}, START)
    return {(it.rollout_id, it.host) for it in actions if isinstance(it, QueueDispatch)}


@given(fleet_views(), st.lists(some_holds, min_size=1, max_size=3))
def test_a_hold_adds_no_dispatch_and_takes_back_what_is_queued(
    view: FleetView, some: list[Hold]
) -> None:
    """Of no host that a hold is on, whatever its scope and source; a host that acts is left alone."""
    for hold in some:
        view.hold(hold)
    actions = plan_next(view, {}, START)
    withdrawn = {(it.rollout_id, it.host) for it in actions if isinstance(it, WithdrawDispatch)}
    for rollout_id in view.served_rollouts():
        for record in view.hosts_of(rollout_id):
            key = rollout_id, record.hostname
            if view.holds_on(*key):
                assert key not in _dispatched(view)
                assert view.is_handed_out(*key) is (key in withdrawn)


@given(fleet_views(), some_holds)
def test_a_hold_that_ends_leaves_the_plan_as_it_was(view: FleetView, hold: Hold) -> None:
    """Nothing else of the fleet remembers it."""
    before, plan = deepcopy(view), plan_next(view, {}, START)
    view.hold(hold)
    view.release(*hold.key)

    assume(hold.key not in before.holds)
    assert view == before
    assert plan_next(view, {}, START) == plan


@given(fleet_views(), some_holds, some_holds)
def test_lifting_one_hold_never_lifts_another(view: FleetView, one: Hold, other: Hold) -> None:
    """Each is by its scope and source."""
    assume(one.key != other.key)
    view.hold(one)
    view.hold(other)
    view.release(*one.key)

    assert view.holds.get(*other.key) == other
    assert view.holds.get(*one.key) is None


def _offsets() -> st.SearchStrategy[timezone]:
    minutes = st.sampled_from((-720, -210, 0, 60, 345, 840))
    return minutes.map(lambda minute: timezone(timedelta(minutes=minute)))


@settings(max_examples=20)
@given(
    calendars(),
    st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
    _offsets(),
    _offsets(),
)
def test_a_replay_needs_no_zones_and_other_zones_change_no_past(
    calendar: tuple[CalendarEntry, ...], waits: list[int], first: timezone, second: timezone
) -> None:
    """The views after a replay are those of the control plane, whatever zones it had and gets."""
    names = {entry.zone for entry in calendar}
    with scratch_directory() as directory, closing(ScriptedControlPlane(directory)) as fleet:
        for offset in (first, second):
            zones = dict.fromkeys(names, offset)
            fleet.engine = ControlPlaneEngine(fleet.state, fleet.ci.trust, zones)
            fleet.state.calendar_due.set(fleet.now)
            fleet.publish("r1", Layout(calendar=calendar))
            for minutes in waits:
                fleet.wait(minutes=minutes)
                fleet.tick()
            with closing(open_for_reading(fleet.database)) as connection:
                replayed = Follower(connection).read_all()
            assert replayed.view == fleet.state.view
            assert fleet.check_store().differences == ()
