"""What a policy can cost at worst, known before anything starts. Pure; of terms alone.

Not counted are hosts that fail after others went on without them: one that regresses, and one that fails when it boots
into a switch that was deferred.
Source: docs/spec/policy.md, Blast radius.
"""

from collections.abc import Iterator

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import checked, require_arguments
from nixfleet_state_machine.planner.terms import BudgetTerms, RolloutTerms


@frozen
@checked
class BudgetWedge:
    """A budget that hosts which failed can fill: nothing gives its slots back, and its other members wait for ever.

    down: how many members may be down at once without a halt. limit: the slots of the budget.
    """

    budget: str
    down: int
    limit: int


def worst_failed(terms: RolloutTerms, on_failure: OnHealthFailure) -> int:
    """Return how many hosts may have failed at most when the rollout halts, or is done, and nobody cleared it.

    Those that may fail in every wave before, and in the wave that is broken also all that were under way.
    Raises: InvalidValue.
    """
    require_arguments(
        "worst_failed", terms=(terms, RolloutTerms), on_failure=(on_failure, OnHealthFailure)
    )
    worst = before = 0
    for wave, hosts in _waves(terms):
        allowed = terms.allowed_failures(wave)
        at_once = _most_at_once(terms, hosts)
        worst = max(worst, before + min(len(hosts), allowed + at_once))
        # A wave in which nobody succeeded is never done.
        before += min(allowed, len(hosts) - 1)
    if on_failure is OnHealthFailure.ROLLBACK_AND_HALT:
        return worst
    # A host that is not rolled back is down, and keeps its slots where hosts may fail.
    return min(worst, _most_at_once(terms, frozenset(terms.wave_of)))


def budget_wedges(terms: RolloutTerms, on_failure: OnHealthFailure) -> tuple[BudgetWedge, ...]:
    """Return the budgets under which a rollout may stand still, though no wave is broken.

    Nobody waits for a host that may fail and did, and under a policy that does not roll back it keeps its slot.
    Raises: InvalidValue.
    """
    require_arguments(
        "budget_wedges", terms=(terms, RolloutTerms), on_failure=(on_failure, OnHealthFailure)
    )
    if on_failure is OnHealthFailure.ROLLBACK_AND_HALT:
        return ()
    found = ((budget, _most_down(terms, budget)) for budget in terms.budgets)
    return tuple(
        BudgetWedge(budget.name, down, budget.limit)
        for budget, down in found
        if budget.limit <= down < len(_members(terms, budget))
    )


def _waves(terms: RolloutTerms) -> Iterator[tuple[int, frozenset[str]]]:
    for wave in range(len(terms.wave_soak_minutes)):
        hosts = frozenset(host for host, its in terms.wave_of.items() if its == wave)
        if hosts:
            yield wave, hosts


def _most_at_once(terms: RolloutTerms, hosts: frozenset[str]) -> int:
    """Return how many of `hosts` may take slots at once, at most: exact if no host is in two budgets."""
    in_any = {host for budget in terms.budgets for host in budget.hosts}
    slots = sum(min(budget.limit, len(budget.hosts & hosts)) for budget in terms.budgets)
    return min(len(hosts), len(hosts - in_any) + slots)


def _most_down(terms: RolloutTerms, budget: BudgetTerms) -> int:
    """Return how many members may be down at once: of each wave as many as it allows, but one that succeeds."""
    down = 0
    for wave, hosts in _waves(terms):
        down += min(terms.allowed_failures(wave), len(hosts & budget.hosts), len(hosts) - 1)
    return down


def _members(terms: RolloutTerms, budget: BudgetTerms) -> frozenset[str]:
    return frozenset(host for host in budget.hosts if host in terms.wave_of)
