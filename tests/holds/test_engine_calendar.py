"""Windows and freezes in the engine: edges are rows of the log, and made before anything begins."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from attrs import evolve

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.messages.inputs import PlanTick
from nixfleet_control_plane.messages.log_entry import HoldMoved
from nixfleet_proto.fleet import RolloutPolicy, Selector
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Repeat
from nixfleet_state_machine.planner.holds.hold import HoldBegan, HoldEnded
from nixfleet_state_machine.planner.plan import explain
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost

# The story begins at 01:00 UTC, which is 03:00 in Berlin.
NIGHTLY = CalendarEntry(
    "nightly",
    CalendarKind.ALLOW,
    Selector(all=True),
    "Europe/Berlin",
    "people sleep",
    repeat=Repeat.DAILY,
    start="04:00",
    minutes=60,
)
FREEZE = CalendarEntry(
    "audit",
    CalendarKind.DENY,
    Selector(all=True),
    "Europe/Berlin",
    "auditors are here",
    begins="2026-05-16T03:30",
    ends="2026-05-16T05:00",
)


def _layout(*calendar: CalendarEntry) -> Layout:
    return Layout(calendar=calendar)


def _events(fleet: ScriptedControlPlane) -> list[str]:
    return [type(each.event).__name__ for each in fleet.logged(HoldMoved)]


def test_a_rollout_waits_for_its_window_and_says_until_when(
    control_plane: ScriptedControlPlane,
) -> None:
    """The reason has the wall clock of the window's zone, the block has the instant."""
    rollout_id = control_plane.publish("r1", _layout(NIGHTLY))

    (block,) = explain(control_plane.state.view, {}, "web-01")[rollout_id]
    assert block.reason == (
        "channel stable is outside of its windows (nightly): until 2026-05-16 04:00 Europe/Berlin: people sleep"
    )
    assert block.until == START + timedelta(hours=1)
    assert control_plane.queued() == []


def test_an_opening_window_lets_hosts_begin_and_a_closing_one_takes_back_what_is_queued(
    control_plane: ScriptedControlPlane,
) -> None:
    """Both edges are rows of the log."""
    rollout_id = control_plane.publish("r1", _layout(NIGHTLY))
    control_plane.wait(minutes=60)
    control_plane.tick()
    opened = control_plane.queued()
    control_plane.wait(minutes=60)
    control_plane.tick()

    assert (opened, control_plane.queued()) == ([("web-01", rollout_id)], [])
    assert _events(control_plane) == ["HoldBegan", "HoldEnded", "HoldBegan"]
    assert control_plane.check_store().differences == ()


def test_no_input_lets_a_host_begin_after_a_freeze_is_due(
    control_plane: ScriptedControlPlane,
) -> None:
    """Also without a tick between: a poll that comes first finds the queue empty."""
    control_plane.publish("r1", _layout(FREEZE))
    control_plane.wait(minutes=31)

    assert control_plane.queued()
    assert control_plane.dispatch_of("web-01") is None


def test_a_window_that_opened_by_a_clock_that_was_ahead_is_closed_once_that_is_right(
    control_plane: ScriptedControlPlane,
) -> None:
    """No host begins by a window that is to come, although its edge was in the log already."""
    rollout_id = control_plane.publish("r1", _layout(NIGHTLY))
    control_plane.wait(minutes=60)
    control_plane.tick()
    assert control_plane.queued() == [("web-01", rollout_id)]
    control_plane.wait(minutes=-5)

    assert control_plane.dispatch_of("web-01") is None

    control_plane.wait(minutes=5)
    assert control_plane.dispatch_of("web-01") is not None


def test_a_freeze_comes_with_the_same_ref_and_leaves_the_rollout_as_it_is(
    control_plane: ScriptedControlPlane,
) -> None:
    """A calendar that is signed again in a hurry amends no rollout: it holds what has not begun."""
    rollout_id = control_plane.publish("r1")
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    control_plane.wait(minutes=45)
    before = control_plane.rollout(rollout_id)
    control_plane.publish("r1", _layout(FREEZE))
    host.converge()

    assert before.standings == control_plane.rollout(rollout_id).standings
    assert control_plane.queued() == []
    (hold,) = control_plane.state.view.holds
    assert str(hold.source) == "freeze:audit"
    control_plane.publish("r1")
    assert [who for who, _ in control_plane.queued()] == ["web-02", "web-03"]


def test_a_failing_host_in_a_frozen_fleet_rolls_back(control_plane: ScriptedControlPlane) -> None:
    """A freeze stops beginnings, and never a way back."""
    rollout_id = control_plane.publish("r1", _layout(FREEZE))
    host = ScriptedHost(control_plane, rollout_id, "web-01")
    host.soak()
    control_plane.wait(minutes=45)
    control_plane.tick()
    host.fail()
    host.roll_back()

    assert control_plane.mirrored(rollout_id, "web-01").state.value == "Reverted"


def test_an_entry_holds_the_hosts_that_it_selects_and_no_others(
    control_plane: ScriptedControlPlane,
) -> None:
    """Hosts with other entries are another group."""
    entry = evolve(FREEZE, selector=Selector(hosts=("web-01",)), begins="2026-05-16T01:00")
    rollout_id = control_plane.publish(
        "r1", Layout(waves=(("web-01", "web-02"),), calendar=(entry,))
    )

    assert control_plane.queued() == [("web-02", rollout_id)]
    (hold,) = control_plane.state.view.holds
    assert str(hold.scope) == "group:stable:audit"
    control_plane.restart_control_plane()
    assert control_plane.state.view.group_of("stable", "web-01") == "audit"
    control_plane.wait(minutes=120)
    control_plane.tick()
    assert [who for who, _ in control_plane.queued()] == ["web-01", "web-02"]


def test_the_activation_deadline_keeps_hosts_from_beginning_too_late(
    control_plane: ScriptedControlPlane,
) -> None:
    """What a switch may take is left before a freeze, where the policy says what it may take."""
    deadlines = Deadlines(activation=Deadline(20, AtDeadline.WAIT))
    layout = evolve(_layout(FREEZE), policy=RolloutPolicy(deadlines=deadlines))
    control_plane.publish("r1", layout)
    control_plane.wait(minutes=9)
    control_plane.tick()
    before = control_plane.queued()
    control_plane.wait(minutes=1)
    control_plane.tick()

    assert (bool(before), control_plane.queued()) == (True, [])


def test_a_zone_that_is_not_known_holds_and_says_what_to_do(
    control_plane: ScriptedControlPlane,
) -> None:
    """A calendar that cannot be read is no licence to begin."""
    control_plane.engine = ControlPlaneEngine(control_plane.state, control_plane.ci.trust)
    rollout_id = control_plane.publish("r1", _layout(FREEZE))

    (block,) = explain(control_plane.state.view, {}, "web-01")[rollout_id]
    assert "its time zone Europe/Berlin is not known here" in block.reason
    assert block.until is None


def test_other_time_zone_data_show_as_rows_and_not_in_a_replay(
    control_plane: ScriptedControlPlane,
) -> None:
    """What a log says of the past is what its control plane knew then."""
    control_plane.publish("r1", _layout(NIGHTLY))
    rows = len(control_plane.log())
    other = {"Europe/Berlin": timezone(timedelta(hours=3))}
    control_plane.engine = ControlPlaneEngine(control_plane.state, control_plane.ci.trust, other)
    control_plane.state.calendar_due.set(control_plane.now)
    control_plane.ask(PlanTick())

    first, *_ = (logged.entry for logged in control_plane.log(after_seq=rows))
    began = control_plane.logged(HoldMoved)[0].event
    assert isinstance(began, HoldBegan)
    assert first == HoldMoved(HoldEnded(*began.hold.key))
    assert control_plane.check_store().differences == ()


@pytest.mark.parametrize("calendar", [(), (FREEZE, NIGHTLY)])
def test_a_restart_finds_the_calendar_and_the_holds(
    control_plane: ScriptedControlPlane, calendar: tuple[CalendarEntry, ...]
) -> None:
    """What is held, and by which entry, is the same; an edge that passed meanwhile is made up for at once."""
    control_plane.publish("r1", _layout(*calendar))
    control_plane.wait(minutes=40)
    control_plane.tick()
    before = likeness(control_plane.state)
    control_plane.restart_control_plane()
    assert likeness(control_plane.state) == before

    control_plane.wait(minutes=10 * 60)
    control_plane.tick()
    held = {str(hold.source) for hold in control_plane.state.view.holds}
    assert held == ({"window:nightly"} if calendar else set())


@pytest.mark.parametrize(
    ("entry", "is_held_first"),
    [
        (evolve(FREEZE, zone="UTC", begins="2026-05-01T00:00", ends="2027-08-01T00:00"), True),
        (evolve(NIGHTLY, zone="UTC", start="00:00", minutes=1440, until="2027-07-31"), False),
    ],
)
def test_what_ends_after_the_horizon_ends_without_a_restart(
    control_plane: ScriptedControlPlane, entry: CalendarEntry, is_held_first: bool
) -> None:
    """The calendar is looked at again each day, so its end is known once it is near enough."""
    control_plane.publish("r1", _layout(entry))
    ends_at = datetime(2027, 8, 1, tzinfo=UTC)
    held = [bool(control_plane.state.view.holds)]
    while (edge := control_plane.engine.next_edge()) is not None and edge <= ends_at:
        control_plane.wait(minutes=(edge - control_plane.now) / timedelta(minutes=1))
        held.append(bool(control_plane.state.view.holds))
        control_plane.tick()
    held.append(bool(control_plane.state.view.holds))

    assert control_plane.now == ends_at
    assert held == [is_held_first] * (len(held) - 1) + [not is_held_first]
    assert control_plane.check_store().differences == ()


def test_a_calendar_that_goes_takes_its_holds_with_it(control_plane: ScriptedControlPlane) -> None:
    """The next release without it ends them."""
    control_plane.publish("r1", _layout(NIGHTLY))
    control_plane.publish("r2")

    assert not control_plane.state.view.holds
    assert isinstance(control_plane.logged(HoldMoved)[0].event, HoldBegan)
    assert _events(control_plane) == ["HoldBegan", "HoldEnded"]
