"""freeze: a freeze that begins over a fleet that waits, and the plan after one event under many windows.

The fleet of `plan`, after its first plan. A freeze of its channel begins: every dispatch that was not acknowledged is
withdrawn, and every waiting host gets the new reason. Then it ends. The calendar has fifty windows of one group, and is
asked for its edges; the plan after one host event is that under all of their holds.
The garbage collector is set as in the control-plane process.
"""

from collections.abc import Iterator
from datetime import timedelta
from time import perf_counter
from zoneinfo import ZoneInfo

from benchmarks.fleet import tuned_collector
from benchmarks.harness import Figure, Scale
from benchmarks.life import ROLLOUT, at
from benchmarks.plan import TIME, waiting_fleet
from nixfleet_proto.fleet import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Repeat
from nixfleet_state_machine.planner.action import WithdrawDispatch
from nixfleet_state_machine.planner.holds.edges import calendar_events
from nixfleet_state_machine.planner.holds.groups import CalendarGroup
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.index import HoldIndex
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import replan
from nixfleet_state_machine.undo import UndoLog

HOSTS, WINDOWS = 100_000, 50
EDGE_AT_MOST_MS, CALENDAR_AT_MOST_MS, AFTER_AT_MOST_MS = 1_000.0, 50.0, 2.0
SCOPE = ChannelScope(ROLLOUT.channel)
ZONES = {"Europe/Berlin": ZoneInfo("Europe/Berlin")}


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the beginning of a freeze, the edges of a calendar, and the plan after one event under fifty holds."""
    size = scale.pick(HOSTS, HOSTS // 10, HOSTS // 50)
    runs = [_run(size) for _ in range(scale.rounds)]
    for place, (name, at_most) in enumerate(
        (
            (f"{size:,} hosts, a freeze begins", EDGE_AT_MOST_MS),
            (f"{WINDOWS} windows, which are open and until when", CALENDAR_AT_MOST_MS),
            (f"{size:,} hosts, after one event under {WINDOWS} holds", AFTER_AT_MOST_MS),
        )
    ):
        yield Figure("freeze", name, "ms", tuple(run[place] for run in runs), at_most=at_most)


def _run(size: int) -> tuple[float, float, float]:
    undo = UndoLog()
    with tuned_collector():
        view = waiting_fleet(size, undo)
        begins = _timed(view, undo, _holds(1))
        calendar = _calendar_ms()
        _timed(view, undo, _holds(WINDOWS))
        host = next(iter(view.terms(ROLLOUT).targets))
        record = view.host(ROLLOUT, host)
        assert record is not None
        started = perf_counter()
        view.set_host(record)
        view.recheck_host(ROLLOUT, host)
        tuple(replan(view, {}, TIME))
        after = (perf_counter() - started) * 1e3
    return begins, calendar, after


def _holds(count: int) -> tuple[Hold, ...]:
    return tuple(
        Hold(SCOPE, HoldSource(HoldKind.FREEZE, f"f-{number}"), "until then", at(9_000))
        for number in range(count)
    )


def _timed(view: FleetView, undo: UndoLog, holds: tuple[Hold, ...]) -> float:
    started = perf_counter()
    for hold in holds:
        view.hold(hold)
    for action in replan(view, {}, TIME):
        if isinstance(action, WithdrawDispatch):
            view.set_queued(action.rollout_id, action.host, False)
    undo.settle()
    return (perf_counter() - started) * 1e3


def _calendar_ms() -> float:
    entries = tuple(
        CalendarEntry(
            f"w-{number}",
            CalendarKind.ALLOW,
            Selector(all=True),
            "Europe/Berlin",
            repeat=Repeat.DAILY,
            start=f"{number % 24:02}:00",
            minutes=20,
        )
        for number in range(WINDOWS)
    )
    started = perf_counter()
    calendar_events(
        HoldIndex(UndoLog()), (CalendarGroup(SCOPE, entries),), ZONES, TIME + timedelta(minutes=1)
    )
    return (perf_counter() - started) * 1e3
