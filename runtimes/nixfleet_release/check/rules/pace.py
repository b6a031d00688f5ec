"""Rules about the pace of budgets, against the hosts that they select.

Source: docs/spec/declarations.md, Validation; docs/spec/pace.md.
"""

from collections.abc import Collection, Iterator

from nixfleet_proto.fleet import Selector
from nixfleet_proto.manifest import ManifestBudget
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, is_touched
from nixfleet_state_machine.planner.terms import BudgetTerms
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.selector import enabled_hosts


def budget_paces(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse ramps that begin above the limit of their budget, and minutes that would hold no host."""
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    for index, budget in enumerate(fleet.budgets):
        path = at("budgets", index)
        if is_touched(path, broken):
            continue
        members = meant(budget.selector.expression, enabled)
        if not members:
            continue  # refused by another rule, or all of them are disabled
        limit = BudgetTerms.of(
            ManifestBudget(Selector(), members, budget.max_in_flight, budget.max_in_flight_pct)
        ).limit
        if budget.ramp is not None and budget.ramp.start > limit > 0:
            yield Problem(
                at(at(path, "ramp"), "start"),
                "begins above the limit of its budget, so it would never grow",
                f"at most {limit}, the most hosts of this budget in flight",
                str(budget.ramp.start),
            )
        if budget.max_per_minute is not None and budget.max_per_minute > len(members):
            yield Problem(
                at(path, "max_per_minute"),
                "has no effect: so many hosts are never dispatched",
                f"at most {len(members)}, the hosts that the budget selects",
                str(budget.max_per_minute),
            )
