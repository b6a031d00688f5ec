"""Validates a declaration: applies all rules and reports each mistake once. Pure.

Consequences of a mistake are not reported. Rules about combinations of statements skip statements that are wrong by
themselves, and nothing is reported about values that could not be read. A problem that disappears when all misspelt
names are corrected is a consequence of the misspelling.
Source: docs/spec/declarations.md, Validation.
"""

from collections.abc import Collection
from datetime import datetime

from attrs import evolve

from nixfleet_release.check.respelling import respelt
from nixfleet_release.check.rules import (
    Rule,
    calendar,
    guards,
    names,
    outcome,
    pace,
    tolerances,
    values,
    waves,
)
from nixfleet_release.check.settings import live_pins
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, is_below

# Rules about single statements.
_STATEMENTS: tuple[Rule, ...] = (
    names.names,
    names.lengths,
    names.machines,
    names.references,
    values.channels,
    values.waves,
    values.selectors,
    values.budgets,
    values.health_checks,
    values.frameworks,
    guards.statements,
    calendar.statements,
    waves.rests,
)
# Rules about combinations of statements.
_CONSEQUENCES: tuple[Rule, ...] = (
    outcome.members,
    outcome.budget_members,
    pace.budget_paces,
    outcome.cross_channel_edges,
    outcome.cycles,
    outcome.clashes,
    outcome.framework_checks,
    outcome.refinements,
    waves.staging,
    waves.edges_against_waves,
    values.soaks,
    guards.bakes,
    calendar.members,
    calendar.openings,
    tolerances.of_declared,
)


def validate(
    fleet: FleetDeclaration, unusable: Collection[str] = (), now: datetime | None = None
) -> tuple[Problem, ...]:
    """Return every problem of `fleet`. If there are none, it can be resolved.

    unusable: the paths whose value is a placeholder, because it could not be read. now: pins that have expired by then
    cannot clash; `None`: none has expired.
    """
    fleet = evolve(fleet, pins=live_pins(fleet.pins, now))
    own = _all(_STATEMENTS, fleet, unusable)
    broken = frozenset(unusable) | {problem.path for problem in own}
    follows = _all(_CONSEQUENCES, fleet, broken)
    meant = respelt(fleet, own)
    if meant != fleet:
        remaining = {
            (problem.path, problem.message) for problem in _all(_CONSEQUENCES, meant, broken)
        }
        follows = tuple(
            problem for problem in follows if (problem.path, problem.message) in remaining
        )
    return tuple(
        problem
        for problem in own + follows
        if problem.path not in unusable and not is_below(problem.path, unusable)
    )


def _all(
    rules: tuple[Rule, ...], fleet: FleetDeclaration, broken: Collection[str]
) -> tuple[Problem, ...]:
    return tuple(problem for rule in rules for problem in rule(fleet, broken))
