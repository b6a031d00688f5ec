"""Whether a declaration makes sense: all problems of all rules, each mistake told once. Pure.

What follows from a mistake is not told with it: rules about what statements come to are given the
places of those that are wrong by themselves, and nothing is said of what stands in a place that could
not even be read. What would be gone if every misspelt name were what it was probably meant to be only
follows from the misspelling.
Source: docs/spec/declarations.md, Validation.
"""

from collections.abc import Collection
from datetime import datetime

from attrs import evolve

from nixfleet_release.check.respelling import respelt
from nixfleet_release.check.rules import Rule, names, outcome, values, waves
from nixfleet_release.check.settings import live_pins
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, is_below

# Each statement by itself.
_STATEMENTS: tuple[Rule, ...] = (
    names.names,
    names.references,
    values.channels,
    values.waves,
    values.selectors,
    values.budgets,
    values.health_checks,
    values.frameworks,
    waves.rests,
)
# What the statements come to together.
_CONSEQUENCES: tuple[Rule, ...] = (
    outcome.members,
    outcome.budget_members,
    outcome.cross_channel_edges,
    outcome.cycles,
    outcome.clashes,
    outcome.framework_checks,
    outcome.refinements,
    waves.staging,
    waves.edges_against_waves,
)


def validate(
    fleet: FleetDeclaration, unusable: Collection[str] = (), now: datetime | None = None
) -> tuple[Problem, ...]:
    """Return every problem of `fleet`; none, and it can be resolved.

    unusable: the paths in which a placeholder stands for something that could not be read. now: pins
    that have expired by then cannot clash; with `None`, none has.
    """
    fleet = evolve(fleet, pins=live_pins(fleet.pins, now))
    own = _all(_STATEMENTS, fleet, unusable)
    broken = frozenset(unusable) | {problem.path for problem in own}
    follows = _all(_CONSEQUENCES, fleet, broken)
    meant = respelt(fleet, own)
    if meant != fleet:
        still = {(it.path, it.message) for it in _all(_CONSEQUENCES, meant, broken)}
        follows = tuple(it for it in follows if (it.path, it.message) in still)
    told = own + follows
    return tuple(it for it in told if it.path not in unusable and not is_below(it.path, unusable))


def _all(
    rules: tuple[Rule, ...], fleet: FleetDeclaration, broken: Collection[str]
) -> tuple[Problem, ...]:
    return tuple(problem for rule in rules for problem in rule(fleet, broken))
