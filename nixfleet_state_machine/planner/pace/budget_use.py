"""How full a budget is for the hosts of one rollout, and when that may change. Data and arithmetic.

Source: docs/spec/pace.md.
"""

from collections.abc import Iterator
from datetime import datetime

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.minute import MINUTE
from nixfleet_state_machine.planner.pace.ramp import RampStep, ramp_step
from nixfleet_state_machine.planner.terms import BudgetTerms


@frozen
@checked
class BudgetUse:
    """The counts of one budget, as a rollout sees it.

    in_flight: over all rollouts that share the budget. under_way, converged: of this rollout; 0 without a ramp.
    begun: beginnings whose minute is not over, over all rollouts; 0 without `max_per_minute`. returns_at: when the
    first of them is; `None`: there is none.
    """

    budget: BudgetTerms
    in_flight: int
    under_way: int = 0
    converged: int = 0
    begun: int = 0
    returns_at: datetime | None = None

    @property
    def step(self) -> RampStep | None:
        """The step that the ramp is at; `None`: the budget has none."""
        ramp = self.budget.ramp
        return None if ramp is None else ramp_step(ramp, self.budget.limit, self.converged)

    @property
    def slots(self) -> int:
        """How many slots there are now: with a ramp, for hosts of this rollout that are under way."""
        step = self.step
        return self.budget.limit if step is None else step.slots

    @property
    def converge_to_grow(self) -> int | None:
        """How many more hosts must converge for the slots to grow; `None`: they do not grow any more."""
        step = self.step
        return None if step is None or step.grows_at is None else step.grows_at - self.converged

    @property
    def is_full(self) -> bool:
        """Whether no host of the rollout may begin under this budget."""
        return any(taken >= most for taken, most in self._counts())

    @property
    def is_just_full(self) -> bool:
        """Whether one beginning less would have left a slot of some kind."""
        return any(taken == most for taken, most in self._counts())

    @property
    def waits_for_time(self) -> bool:
        """Whether nothing but the minute of earlier beginnings holds a host."""
        most = self.budget.max_per_minute
        others_are_free = self.in_flight < self.budget.limit and (
            self.budget.ramp is None or self.under_way < self.slots
        )
        return most is not None and self.begun >= most and others_are_free

    def _counts(self) -> Iterator[tuple[int, int]]:
        """Yield what is taken, and how much may be: of the limit, the ramp and the minute."""
        yield self.in_flight, self.budget.limit
        if self.budget.ramp is not None:
            yield self.under_way, self.slots
        if self.budget.max_per_minute is not None:
            yield self.begun, self.budget.max_per_minute

    def shortage(self) -> str:
        """Return in words which slots are all taken, and what gives more; empty if none is."""
        return ", ".join(self._shortages())

    def _shortages(self) -> Iterator[str]:
        budget = self.budget
        if self.in_flight >= budget.limit:
            yield f"{self.in_flight} of {budget.limit} in flight ({budget.name})"
        if budget.ramp is not None and self.under_way >= self.slots:
            more = self.converge_to_grow
            growth = "" if more is None else f", more slots after {more} more have converged"
            yield f"{self.under_way} of {self.slots} under way ({budget.name}){growth}"
        if budget.max_per_minute is not None and self.begun >= budget.max_per_minute:
            at = self.returns_at
            when = "" if at is None else f", the next slot at {at:%Y-%m-%dT%H:%M:%SZ}"
            most = budget.max_per_minute
            yield f"{self.begun} of {most} begun within a minute ({budget.name}){when}"


def budget_use(view: FleetView, rollout_id: RolloutId, budget: BudgetTerms) -> BudgetUse:
    """Return how full a budget of a rollout is. O(1). Raises: UnknownRollout."""
    name = budget.name
    if not budget.has_pace:
        return BudgetUse(budget, view.in_flight_of(name))
    begun, first = 0, None
    if budget.max_per_minute is not None:
        begun, first = view.beginnings.count(name), view.beginnings.first(name)
    return BudgetUse(
        budget,
        view.in_flight_of(name),
        view.under_way_of(rollout_id, name),
        view.converged_of(rollout_id, name),
        begun,
        None if first is None else first + MINUTE,
    )
