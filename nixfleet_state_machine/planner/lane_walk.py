"""Walks the lanes whose answer may have changed, in the order of a plan.

The gates are evaluated for one host of a lane, and the result holds for all of its hosts. A lane whose result equals
the last one is skipped; any other is walked, host by host, until its result equals the last one again. A dispatch takes
slots and so changes results during the walk: therefore all lanes are walked together, by rollout and host.
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
    """One lane in this plan. block: the answer for its next host; `None`: it is dispatched.

    is_walked: its hosts are being answered, one after the other. answered: the number of hosts answered so far.
    blocks: the blocks they were given. noted: the last of them.
    """

    lane: Lane
    block: GateBlock | None
    is_walked: bool = False
    answered: int = 0
    blocks: set[GateBlock] = Factory(set[GateBlock])
    noted: GateBlock | None = None

    @property
    def is_unchanged(self) -> bool:
        """Whether all hosts of the lane were given this block the last time."""
        return self.block is not None and self.block == self.lane.last_block


@frozen(eq=False)
class _Names:
    """Hosts of a lane to be answered, in order. is_walk: only while the lane's answer differs from the last one."""

    round: _Round
    rest: Iterator[str]
    is_walk: bool


class Walk:
    """The walk of one plan, over all lanes."""

    def __init__(self, planning: Planning, now: datetime) -> None:
        self._planning = planning
        self._now = now
        self._served = frozenset(planning.view.served_rollouts())
        self._rounds: dict[Lane, _Round] = {}
        self._lanes_of_budget: dict[str, list[tuple[BudgetTerms, Lane]]] = {}
        # A heap. The number orders entries of the same host, so that `_Names` need not be comparable.
        self._ahead: list[tuple[RolloutId, str, int, _Names]] = []
        self._numbers = count()

    def consider(self, lane: Lane) -> None:
        """Walk `lane`, of a served rollout, if its answer differs from the last one."""
        round_ = self._round(lane)
        if not round_.is_walked and not round_.is_unchanged:
            self._walk(round_, iter(lane.hosts))

    def consider_host(self, lane: Lane, host: str) -> None:
        """Answer `host`, which is new in `lane`, even if the answer of the other hosts is unchanged."""
        if lane.rollout_id not in self._served:
            return
        self.consider(lane)
        # A lane without a last block is walked to its end, and so reaches this host.
        if lane.last_block is not None:
            self._enter(_Names(self._round(lane), iter((host,)), is_walk=False))

    def answers(self) -> Iterator[PlanAction]:
        """Yield an action for each host that is answered, and record the last block of each lane."""
        last: _Place | None = None
        while self._ahead:
            rollout_id, host, _, names = self._ahead[0]
            if names.is_walk and names.round.is_unchanged:
                self._leave()
                continue
            if last != (rollout_id, host):
                last = (rollout_id, host)
                yield self._answer(names.round, last)
            self._step()
        for round_ in self._rounds.values():
            self._note_last_block(round_)

    def _answer(self, round_: _Round, place: _Place) -> QueueDispatch | DeferDispatch:
        block = round_.block
        round_.answered += 1
        action = answer(self._planning, *place, block, self._now)
        if block is None:
            self._revise_lanes(round_.lane, place)
        elif block is not round_.noted:
            # The same one for most hosts of a lane: hashing it for each cost a tenth of an edge.
            round_.blocks.add(block)
            round_.noted = block
        return action

    def _revise_lanes(self, lane: Lane, place: _Place) -> None:
        """Evaluate the lanes of a budget again if a host of `lane` has just taken their last slot."""
        for taken in budgets_of(self._planning.view, lane):
            for budget, other in self._lanes_under(taken.name):
                has_slots = other.key.has_slots
                if self._planning.is_just_full(other.rollout_id, budget, has_slots=has_slots):
                    self._revise(other, place)

    def _revise(self, lane: Lane, place: _Place) -> None:
        round_ = self._round(lane)
        round_.block = self._block(lane)
        if not round_.is_walked and not round_.is_unchanged:
            self._walk(round_, _names_after(lane, place))

    def _lanes_under(self, budget: str) -> list[tuple[BudgetTerms, Lane]]:
        """Return the lanes whose hosts are members of the budget, each with the limit of its own rollout."""
        known = self._lanes_of_budget.get(budget)
        if known is None:
            view = self._planning.view
            lanes = (lane for rollout_id in self._served for lane in view.lanes.free(rollout_id))
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

    def _note_last_block(self, round_: _Round) -> None:
        lane = round_.lane
        are_all = round_.answered == len(lane.hosts)
        blocks = round_.blocks if are_all else {*round_.blocks, lane.last_block}
        block = blocks.pop() if len(blocks) == 1 else None
        if block != lane.last_block:
            self._planning.view.lanes.set_last_block(lane, block)


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
