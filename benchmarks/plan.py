"""plan: the first plan of a fleet, and the plan after one host event, at 1,000, 10,000 and 100,000 hosts.

Ten waves, a budget of 5 % over all hosts and one of 10 hosts over a tenth of them, and edges from each tenth host to
the next. After the first plan, hosts that were dispatched acknowledge, activate, declare and converge; what is
measured after each of these is the change of the view and the plan, a new dispatch included where a slot is free.
The garbage collector is set as in the control-plane process.

The two larger fleets are planned once more under a policy in which every wave has a tolerance and every stage a
deadline, and hosts may try again; each figure is compared with that of the same fleet without.
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from statistics import fmean
from time import perf_counter, process_time

from attrs import evolve, frozen

from benchmarks.fleet import host_names, tuned_collector
from benchmarks.harness import Figure, Scale, ratio
from benchmarks.life import POLICY, ROLLOUT, TARGET, at, life
from nixfleet_proto.fleet import Edge, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry, Tolerance
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
STAGES = ("first plan", "after one event")
FIRST_AT_MOST_MS, AFTER_AT_MOST_MS, GROWTH_AT_MOST, POLICY_AT_MOST = 1500.0, 2.0, 3.0, 2.0
LIVES = 40
# One of each kind: what follows is planned for, and what does not is kept for status.
DEADLINES = Deadlines(
    ack=Deadline(30, AtDeadline.SKIP),
    activation=Deadline(30, AtDeadline.FAIL),
    reboot=Deadline(600, AtDeadline.WAIT),
    convergence=Deadline(60, AtDeadline.WAIT),
)
TIME = at(1000)


@frozen
class Times:
    """A time in milliseconds: by the wall, and by the processor."""

    wall_ms: float
    cpu_ms: float


@frozen
class Planned:
    """The times of one run."""

    first: Times
    after: Times


class Watch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = perf_counter(), process_time()

    def read(self) -> Times:
        """Return how long it has run."""
        return Times((perf_counter() - self._wall) * 1e3, (process_time() - self._cpu) * 1e3)


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield first and later plans at each size, and how the later ones grow."""
    sizes = tuple(scale.pick(full, full // 10, full // 50) for full in (1_000, 10_000, 100_000))
    plain = {size: _measured(size, scale, is_last=size == sizes[-1]) for size in sizes}
    for pair in plain.values():
        yield from pair
    yield ratio(
        f"{sizes[-1]:,} hosts / {sizes[0]:,} hosts, after one event",
        plain[sizes[-1]][1],
        plain[sizes[0]][1],
        at_most=GROWTH_AT_MOST,
    )
    for size in sizes[1:]:
        pair = _measured(size, scale, is_last=size == sizes[-1], has_policy=True)
        yield from pair
        for name, figure, without in zip(STAGES, pair, plain[size], strict=True):
            yield ratio(
                f"{size:,} hosts, {name}: with tolerances and deadlines / without",
                figure,
                without,
                at_most=POLICY_AT_MOST,
            )


def _measured(
    size: int, scale: Scale, *, is_last: bool, has_policy: bool = False
) -> tuple[Figure, Figure]:
    """Return the figures of the first plan, and of the plan after one event."""
    runs = [_planned(size, has_policy) for _ in range(scale.rounds)]
    fleet = f"{size:,} hosts" + (" with tolerances and deadlines" if has_policy else "")
    first, after = STAGES
    return (
        _figure(f"{fleet}, {first}", [it.first for it in runs], FIRST_AT_MOST_MS, is_last),
        _figure(f"{fleet}, {after}", [it.after for it in runs], AFTER_AT_MOST_MS, is_last),
    )


def _figure(name: str, times: list[Times], at_most_ms: float, has_target: bool) -> Figure:
    walls, cpus = tuple(it.wall_ms for it in times), tuple(it.cpu_ms for it in times)
    return Figure("plan", name, "ms", walls, at_most=at_most_ms if has_target else None, cpu=cpus)


def _planned(size: int, has_policy: bool) -> Planned:
    undo = UndoLog()
    view = _fleet(size, undo, has_policy)
    with tuned_collector():
        watch = Watch()
        dispatched = _replan(view, undo)
        first = watch.read()
        times = [each for host in islice(dispatched, LIVES) for each in _lived(view, undo, host)]
    after = Times(fmean(it.wall_ms for it in times), fmean(it.cpu_ms for it in times))
    return Planned(first, after)


def waiting_fleet(size: int, undo: UndoLog) -> FleetView:
    """Return the fleet after its first plan, carried out."""
    view = _fleet(size, undo, has_policy=False)
    _replan(view, undo)
    return view


def _lived(view: FleetView, undo: UndoLog, host: str) -> Iterator[Times]:
    for fact in life():
        before = view.host(ROLLOUT, host)
        assert before is not None
        record, _ = step(before, Remote(fact), TIME, POLICY)
        watch = Watch()
        view.set_host(record)
        view.set_queued(ROLLOUT, host, False)
        _replan(view, undo)
        yield watch.read()


def _replan(view: FleetView, undo: UndoLog) -> list[str]:
    """Plan and carry out; return who is dispatched."""
    hosts: list[str] = []
    for action in replan(view, {}, TIME):
        if isinstance(action, QueueDispatch):
            record = view.host(ROLLOUT, action.host)
            assert record is not None
            view.set_host(record.dispatched(at(0), at(300)))
            view.set_queued(ROLLOUT, action.host, True, at(0))
            hosts.append(action.host)
    undo.settle()
    return hosts


def _fleet(size: int, undo: UndoLog, has_policy: bool) -> FleetView:
    terms = _terms(host_names(size))
    if has_policy:
        terms = evolve(
            terms,
            wave_tolerances=(Tolerance(max_failure_pct=2),) * WAVES,
            deadlines=DEADLINES,
            retry=Retry(attempts=3),
        )
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
