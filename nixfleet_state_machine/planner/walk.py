"""The lanes that may have a new answer, walked in the order of a plan.

One host of a lane stands for all of it. A lane whose answer is what its hosts were told last is left alone;
any other is walked, host by host, until its answer is that again. A dispatch takes slots and so changes
answers under way: whatever is walked is walked in one order, by rollout and host.
Source: design 3, Cost.
"""

from collections.abc import Iterator
from datetime import datetime
from heapq import heappop, heappush, heapreplace
from itertools import dropwhile
from typing import TypeAlias

from attrs import Factory, define, frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    GateBlock,
    PlanAction,
    QueueDispatch,
)
from nixfleet_state_machine.planner.decision import answer
from nixfleet_state_machine.planner.gates import Planning, first_block
from nixfleet_state_machine.planner.lanes import Lane
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.planner.view import FleetView

_Place: TypeAlias = tuple[RolloutId, str]


@define(eq=False)
class _Round:
    """How a lane fares in this plan. block: what its next host will be told; `None`: go.

    told: what its hosts were told in this plan. is_whole: that was all of them, one after the other.
    """

    lane: Lane
    block: GateBlock | None
    told: set[GateBlock] = Factory(set[GateBlock])
    is_walked: bool = False
    is_whole: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether the hosts of the lane already know."""
        return self.block is not None and self.block == self.lane.told


@frozen(eq=False)
class _Names:
    """Hosts of a lane yet to be asked. is_walk: those that already know need not be asked."""

    round: _Round
    rest: Iterator[str]
    is_walk: bool
    from_start: bool


class Walk:
    """All that is walked in one plan, in order of rollout and host."""

    def __init__(self, planning: Planning, now: datetime) -> None:
        self._planning = planning
        self._now = now
        self._live = frozenset(planning.view.live_rollouts())
        self._rounds: dict[Lane, _Round] = {}
        self._lanes_of_budget: dict[str, list[tuple[BudgetTerms, Lane]]] = {}
        # The number keeps entries of one place in order of arrival, and the rest from being compared.
        self._ahead: list[tuple[RolloutId, str, int, _Names]] = []
        self._arrivals = 0

    def consider(self, lane: Lane) -> None:
        """Walk `lane` if its hosts do not know their answer."""
        if lane.rollout_id in self._live:
            round_ = self._round(lane)
            if not round_.is_walked and not round_.is_settled:
                self._walk(round_, iter(lane.hosts), from_start=True)

    def consider_host(self, lane: Lane, host: str) -> None:
        """Ask `host`, which is new in `lane`."""
        self.consider(lane)
        if lane.rollout_id in self._live and not self._rounds[lane].is_walked:
            self._enter(_Names(self._rounds[lane], iter((host,)), is_walk=False, from_start=False))

    def answers(self) -> Iterator[PlanAction]:
        """Yield an action for each host that is asked, and note what the lanes were told."""
        last: _Place | None = None
        while self._ahead:
            rollout_id, host, _, names = self._ahead[0]
            if names.is_walk and names.round.is_settled:
                self._leave(is_whole=False)
                continue
            if last != (rollout_id, host):
                last = (rollout_id, host)
                yield self._ask(names.round, last)
            self._step(names)
        for round_ in self._rounds.values():
            self._note_told(round_)

    def _ask(self, round_: _Round, place: _Place) -> QueueDispatch | DeferDispatch:
        if round_.block is not None:
            round_.told.add(round_.block)
        action = answer(self._planning, *place, round_.block, self._now)
        if round_.block is None:
            # Asked again next time, should it still be waiting then.
            self._planning.view.stir_host(*place)
            self._revise_under(round_.lane, place)
        return action

    def _revise_under(self, lane: Lane, place: _Place) -> None:
        """A host of `lane` took slots; lanes for which one was the last have another answer now."""
        for taken in budgets_of(self._planning.view, lane):
            for budget, other in self._under(taken.name):
                if self._planning.taken(budget) == budget.limit:
                    self._revise(other, place)

    def _revise(self, lane: Lane, place: _Place) -> None:
        round_ = self._round(lane)
        round_.block = self._block(lane)
        if round_.is_walked or round_.is_settled or lane.rollout_id < place[0]:
            return
        if lane.rollout_id == place[0]:
            rest = dropwhile(lambda name: name <= place[1], lane.hosts)
            self._walk(round_, rest, from_start=False)
        else:
            self._walk(round_, iter(lane.hosts), from_start=True)

    def _under(self, budget: str) -> list[tuple[BudgetTerms, Lane]]:
        """Return the lanes whose hosts are members of the budget, each with its rollout's own limit."""
        known = self._lanes_of_budget.get(budget)
        if known is None:
            view = self._planning.view
            lanes = (lane for id_ in self._live for lane in view.lanes.free(id_))
            pairs = ((each, lane) for lane in lanes for each in budgets_of(view, lane))
            known = [(each, lane) for each, lane in pairs if each.name == budget]
            self._lanes_of_budget[budget] = known
        return known

    def _round(self, lane: Lane) -> _Round:
        known = self._rounds.get(lane)
        if known is None:
            known = self._rounds[lane] = _Round(lane, self._block(lane))
        return known

    def _block(self, lane: Lane) -> GateBlock | None:
        return first_block(self._planning, lane.rollout_id, lane.hosts[0])

    def _walk(self, round_: _Round, rest: Iterator[str], from_start: bool) -> None:
        round_.is_walked = True
        self._enter(_Names(round_, rest, is_walk=True, from_start=from_start))

    def _enter(self, names: _Names) -> None:
        host = next(names.rest, None)
        if host is None:
            names.round.is_walked = False
            return
        self._arrivals += 1
        heappush(self._ahead, (names.round.lane.rollout_id, host, self._arrivals, names))

    def _step(self, names: _Names) -> None:
        host = next(names.rest, None)
        if host is None:
            self._leave(is_whole=names.from_start)
        else:
            rollout_id, _, arrival, _ = self._ahead[0]
            heapreplace(self._ahead, (rollout_id, host, arrival, names))

    def _leave(self, is_whole: bool) -> None:
        *_, names = heappop(self._ahead)
        if names.is_walk:
            names.round.is_walked = False
            names.round.is_whole = is_whole

    def _note_told(self, round_: _Round) -> None:
        lane = round_.lane
        told = round_.told if round_.is_whole else {*round_.told, lane.told}
        now_told = told.pop() if len(told) == 1 else None
        if now_told != lane.told:
            self._planning.view.lanes.tell(lane, now_told)
        if now_told is None:
            self._planning.view.stir_earlier_waves(lane.rollout_id)


def budgets_of(view: FleetView, lane: Lane) -> Iterator[BudgetTerms]:
    budgets = view.terms(lane.rollout_id).budgets
    return (budgets[place] for place in lane.key.budgets)
