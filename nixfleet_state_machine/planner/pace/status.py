"""How full the budgets of a rollout are, for status, listings and metrics alone. Decides nothing.

Source: docs/spec/pace.md.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.pace.budget_use import BudgetUse, budget_use


class Shortage(WordEnum):
    """Which slots of a budget are all taken."""

    LIMIT = "limit"
    RAMP = "ramp"
    MINUTE = "minute"


@frozen
@checked
class BudgetStatus:
    """The slots of one budget, as a rollout sees it. What the budget does not limit is `None`.

    in_flight: of `limit`, over all rollouts that share the budget. under_way: of the `slots` that the ramp gives now,
    in this rollout. converge_to_grow: how many more hosts must converge for more slots; `None`: there are no more.
    begun: of `max_per_minute`, the beginnings that still take a slot. returns_at: when the first slot comes back.
    """

    budget: str
    in_flight: int
    limit: int
    under_way: int | None = None
    slots: int | None = None
    converge_to_grow: int | None = None
    begun: int | None = None
    max_per_minute: int | None = None
    returns_at: datetime | None = None

    @property
    def shortages(self) -> tuple[Shortage, ...]:
        """Which slots are all taken; while there is any, no host of the rollout begins under the budget."""
        counts = {
            Shortage.LIMIT: (self.in_flight, self.limit),
            Shortage.RAMP: (self.under_way, self.slots),
            Shortage.MINUTE: (self.begun, self.max_per_minute),
        }
        return tuple(
            shortage
            for shortage, (taken, most) in counts.items()
            if taken is not None and most is not None and taken >= most
        )


def budget_statuses(view: FleetView, rollout_id: RolloutId) -> tuple[BudgetStatus, ...]:
    """Return how full each budget of an open rollout is, in the order of its terms. Raises: UnknownRollout."""
    budgets = view.terms(rollout_id).budgets
    return tuple(_status(budget_use(view, rollout_id, budget)) for budget in budgets)


def shortage_counts(view: FleetView) -> Mapping[Shortage, int]:
    """Return of how many budgets of live rollouts each kind of slot is all taken. O(budgets of live rollouts)."""
    return Counter(
        shortage
        for rollout_id in view.live_rollouts()
        for status in budget_statuses(view, rollout_id)
        for shortage in status.shortages
    )


def _status(use: BudgetUse) -> BudgetStatus:
    budget = use.budget
    is_ramp, is_minute = budget.ramp is not None, budget.max_per_minute is not None
    return BudgetStatus(
        budget.name,
        use.in_flight,
        budget.limit,
        under_way=use.under_way if is_ramp else None,
        slots=use.slots if is_ramp else None,
        converge_to_grow=use.converge_to_grow,
        begun=use.begun if is_minute else None,
        max_per_minute=budget.max_per_minute,
        returns_at=use.returns_at,
    )
