"""The lanes that may have a new answer, walked in the order of a plan.

One host of a lane stands for all of it. A lane whose answer is what its hosts were told last is left alone;
any other is walked, host by host, until its answer is that again. A dispatch takes slots and so changes
answers under way: whatever is walked is walked in one order, by rollout and host.
Source: docs/spec/planner.md, Cost.
"""

from collections.abc import Iterator
from datetime import datetime
from heapq import heappop, heappush, heapreplace
from itertools import count, dropwhile
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
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.lanes import Lane
from nixfleet_state_machine.planner.terms import BudgetTerms

_Place: TypeAlias = tuple[RolloutId, str]


@define(eq=False)
class _Round:
    """How a lane fares in this plan. block: what its next host will be told; `None`: go.

    is_walked: its hosts are being asked, one after the other. asked: how many were. told: what they heard.
    """

    lane: Lane
    block: GateBlock | None
    is_walked: bool = False
    asked: int = 0
    told: set[GateBlock] = Factory(set[GateBlock])

    @property
    def is_known(self) -> bool:
        """Whether the hosts of the lane were told so before."""
        return self.block is not None and self.block == self.lane.told


@frozen(eq=False)
class _Names:
    """Hosts of a lane that are to be asked, in order. is_walk: only as long as they do not know."""

    round: _Round
    rest: Iterator[str]
    is_walk: bool


class Walk:
    """All that is walked in one plan."""

    def __init__(self, planning: Planning, now: datetime) -> None:
        self._planning = planning
        self._now = now
        self._live = frozenset(planning.view.live_rollouts())
        self._rounds: dict[Lane, _Round] = {}
        self._lanes_of_budget: dict[str, list[tuple[BudgetTerms, Lane]]] = {}
        # The number settles the order of what is at one place, so that names need not be compared.
        self._ahead: list[tuple[RolloutId, str, int, _Names]] = []
        self._numbers = count()

    def consider(self, lane: Lane) -> None:
        """Walk `lane`, of a live rollout, if its hosts do not know their answer."""
        round_ = self._round(lane)
        if not round_.is_walked and not round_.is_known:
            self._walk(round_, iter(lane.hosts))

    def consider_host(self, lane: Lane, host: str) -> None:
        """Ask `host`, which is new in `lane`: that the others know their answer is nothing to it."""
        if lane.rollout_id not in self._live:
            return
        self.consider(lane)
        # A lane in which nobody knows is walked to its end.
        if lane.told is not None:
            self._enter(_Names(self._round(lane), iter((host,)), is_walk=False))

    def answers(self) -> Iterator[PlanAction]:
        """Yield an action for each host that is asked, and note what the lanes were told."""
        last: _Place | None = None
        while self._ahead:
            rollout_id, host, _, names = self._ahead[0]
            if names.is_walk and names.round.is_known:
                self._leave()
                continue
            if last != (rollout_id, host):
                last = (rollout_id, host)
                yield self._ask(names.round, last)
            self._step()
        for round_ in self._rounds.values():
            self._note_told(round_)

    def _ask(self, round_: _Round, place: _Place) -> QueueDispatch | DeferDispatch:
        block = round_.block
        round_.asked += 1
        action = answer(self._planning, *place, block, self._now)
        if block is None:
            self._revise_lanes(round_.lane, place)
        else:
            round_.told.add(block)
        return action

    def _revise_lanes(self, lane: Lane, place: _Place) -> None:
        """A host of `lane` took slots. Where one was the last, lanes have another answer from here on."""
        for taken in budgets_of(self._planning.view, lane):
            for budget, other in self._lanes_under(taken.name):
                if self._planning.taken(budget) == budget.limit:
                    self._revise(other, place)

    def _revise(self, lane: Lane, place: _Place) -> None:
        round_ = self._round(lane)
        round_.block = self._block(lane)
        if not round_.is_walked and not round_.is_known:
            self._walk(round_, _names_after(lane, place))

    def _lanes_under(self, budget: str) -> list[tuple[BudgetTerms, Lane]]:
        """Return the lanes whose hosts are members of the budget, each with its rollout's own limit."""
        known = self._lanes_of_budget.get(budget)
        if known is None:
            view = self._planning.view
            lanes = (lane for rollout_id in self._live for lane in view.lanes.free(rollout_id))
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

    def _walk(self, round_: _Round, names: Iterator[str]) -> None:
        round_.is_walked = True
        self._enter(_Names(round_, names, is_walk=True))

    def _enter(self, names: _Names) -> None:
        host = next(names.rest, None)
        if host is None:
            names.round.is_walked = False
        else:
            entry = (names.round.lane.rollout_id, host, next(self._numbers), names)
            heappush(self._ahead, entry)

    def _step(self) -> None:
        rollout_id, _, number, names = self._ahead[0]
        host = next(names.rest, None)
        if host is None:
            self._leave()
        else:
            heapreplace(self._ahead, (rollout_id, host, number, names))

    def _leave(self) -> None:
        *_, names = heappop(self._ahead)
        if names.is_walk:
            names.round.is_walked = False

    def _note_told(self, round_: _Round) -> None:
        lane = round_.lane
        are_all = round_.asked == len(lane.hosts)
        told = round_.told if are_all else {*round_.told, lane.told}
        block = told.pop() if len(told) == 1 else None
        if block != lane.told:
            self._planning.view.lanes.tell(lane, block)


def budgets_of(view: FleetView, lane: Lane) -> Iterator[BudgetTerms]:
    """Yield the budgets that the hosts of `lane` are members of."""
    budgets = view.terms(lane.rollout_id).budgets
    return (budgets[place] for place in lane.key.budgets)


def _names_after(lane: Lane, place: _Place) -> Iterator[str]:
    """Yield the hosts of `lane` that come after `place` in a plan."""
    rollout_id, host = place
    if lane.rollout_id != rollout_id:
        return iter(lane.hosts if lane.rollout_id > rollout_id else ())
    return dropwhile(lambda name: name <= host, lane.hosts)
