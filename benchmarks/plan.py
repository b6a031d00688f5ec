"""plan: the first plan of a fleet, and the plan after one host event, at 1,000, 10,000 and 100,000 hosts.

Ten waves, a budget of 5 % over all hosts and one of 10 hosts over a tenth of them, and edges from each tenth host to
the next. After the first plan, hosts that were dispatched acknowledge, activate, declare and converge; what is
measured after each of these is the change of the view and the plan, a new dispatch included where a slot is free.
The garbage collector is set as in the control-plane process.
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from statistics import fmean
from time import perf_counter

from attrs import frozen

from benchmarks.fleet import host_names, tuned_collector
from benchmarks.harness import Figure, Scale, ratio
from benchmarks.life import POLICY, ROLLOUT, TARGET, at, life
from nixfleet_proto.fleet import Edge, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine import (
    HostRolloutState,
    Remote,
    RolloutEvent,
    open_rollout,
    step,
    step_rollout,
)
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import replan
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms
from nixfleet_state_machine.rollout.event import HostJoined, RolloutOpened
from nixfleet_state_machine.undo import UndoLog

WAVES = 10
FIRST_AT_MOST_MS, AFTER_AT_MOST_MS, GROWTH_AT_MOST = 1500.0, 2.0, 3.0
LIVES = 40
TIME = at(1000)


@frozen
class Planned:
    """The times of one run, in milliseconds."""

    first_ms: float
    after_ms: float


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield first and later plans at each size, and how the later ones grow."""
    sizes = tuple(scale.pick(full, full // 10, full // 50) for full in (1_000, 10_000, 100_000))
    runs = {size: [_planned(size) for _ in range(scale.rounds)] for size in sizes}
    after: list[Figure] = []
    for size, of_size in runs.items():
        is_last = size == sizes[-1]
        firsts = tuple(run.first_ms for run in of_size)
        yield Figure(
            "plan",
            f"{size:,} hosts, first plan",
            "ms",
            firsts,
            at_most=FIRST_AT_MOST_MS if is_last else None,
        )
        laters = tuple(run.after_ms for run in of_size)
        later = Figure(
            "plan",
            f"{size:,} hosts, after one event",
            "ms",
            laters,
            at_most=AFTER_AT_MOST_MS if is_last else None,
        )
        after.append(later)
        yield later
    yield ratio(
        f"{sizes[-1]:,} hosts / {sizes[0]:,} hosts, after one event",
        after[-1],
        after[0],
        at_most=GROWTH_AT_MOST,
    )


def _planned(size: int) -> Planned:
    undo = UndoLog()
    view = _fleet(size, undo)
    with tuned_collector():
        begun = perf_counter()
        dispatched = _replan(view, undo)
        first_ms = (perf_counter() - begun) * 1e3
        times = [ms for host in islice(dispatched, LIVES) for ms in _lived(view, undo, host)]
    return Planned(first_ms, fmean(times))


def _lived(view: FleetView, undo: UndoLog, host: str) -> Iterator[float]:
    for fact in life():
        before = view.host(ROLLOUT, host)
        assert before is not None
        record, _ = step(before, Remote(fact), TIME, POLICY)
        begun = perf_counter()
        view.set_host(record)
        view.set_queued(ROLLOUT, host, False)
        _replan(view, undo)
        yield (perf_counter() - begun) * 1e3


def _replan(view: FleetView, undo: UndoLog) -> list[str]:
    """Plan and carry out; return who is dispatched."""
    hosts: list[str] = []
    for action in replan(view, {}, TIME):
        if isinstance(action, QueueDispatch):
            record = view.host(ROLLOUT, action.host)
            assert record is not None
            view.set_host(record.dispatched(at(0), at(300)))
            view.set_queued(ROLLOUT, action.host, True)
            hosts.append(action.host)
    undo.settle()
    return hosts


def _fleet(size: int, undo: UndoLog) -> FleetView:
    terms = _terms(host_names(size))
    view = FleetView(undo)
    view.offer(terms)
    opened = RolloutOpened(ROLLOUT, ROLLOUT.channel, ROLLOUT.channel_ref, at(0))
    joined: RolloutEvent = HostJoined(ROLLOUT, next(iter(terms.targets)), 0, at(0))
    record, _ = step_rollout(open_rollout(opened, 1, ()), joined, at(0))
    view.open(record, terms)
    for host, closure in terms.targets.items():
        pending = HostRolloutState.pending(ROLLOUT, host, ROLLOUT.channel, closure, None, None)
        view.set_host(pending)
    undo.settle()
    return view


def _terms(hosts: tuple[str, ...]) -> RolloutTerms:
    per_wave = -(-len(hosts) // WAVES)
    tenth = hosts[::10]
    return RolloutTerms(
        rollout_id=ROLLOUT,
        channel=ROLLOUT.channel,
        target_ref=ROLLOUT.channel_ref,
        targets=FrozenMap(dict.fromkeys(hosts, TARGET)),
        wave_of=FrozenMap({host: index // per_wave for index, host in enumerate(hosts)}),
        wave_soak_minutes=(5,) * WAVES,
        budgets=(
            BudgetTerms(Selector(all=True), frozenset(hosts), max(1, len(hosts) // 20)),
            BudgetTerms(Selector(tags=("db",)), frozenset(tenth), 10),
        ),
        host_edges=tuple(Edge(*pair) for pair in pairwise(tenth)),
        predecessors=(),
    )
