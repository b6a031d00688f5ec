"""The slots of budgets as lines: for `nixfleet status` and `nixfleet operator rollouts`."""

from collections.abc import Iterable, Iterator

from nixfleet_cli.shared.output import Row, shown_time
from nixfleet_state_machine.planner.pace.status import BudgetStatus


def budget_rows(rollout_id: str, budgets: Iterable[BudgetStatus]) -> Iterator[Row]:
    """Yield for each budget its slots that are taken, of how many now, and what gives more."""
    for status in budgets:
        yield rollout_id, status.budget, ", ".join(_slots(status))


def _slots(status: BudgetStatus) -> Iterator[str]:
    yield f"{status.in_flight} of {status.limit} in flight"
    if status.slots is not None:
        more = status.converge_to_grow
        growth = "" if more is None else f" ({more} more must converge for more)"
        yield f"{status.under_way} of {status.slots} slots of the ramp taken{growth}"
    if status.max_per_minute is not None:
        at = status.returns_at
        returns = "" if at is None else f" (the next slot at {shown_time(at)})"
        yield f"{status.begun} of {status.max_per_minute} begun within a minute{returns}"
