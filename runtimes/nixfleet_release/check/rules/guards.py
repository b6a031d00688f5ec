"""Rules about guards of waves: what no judge could satisfy, or what would be satisfied without one.

Source: docs/spec/guards.md, Declaration.
"""

from collections.abc import Collection, Iterator

from nixfleet_proto.steering.guards import (
    APPROVALS,
    BAKE,
    BAKE_MINUTES_MAX,
    CHECKS_MAX,
    COMPARISON_EXPECTED,
    COUNT_MAX,
    INTERVAL_SECONDS_MIN,
    JUDGES_MAX,
    NAME_EXPECTED,
    NAME_LENGTH_MAX,
    QUERY_LENGTH_MAX,
    Comparison,
    is_name,
)
from nixfleet_release.check.rules.names import wave_path
from nixfleet_release.written.declaration import (
    ApprovalsDeclaration,
    CheckDeclaration,
    FleetDeclaration,
    GuardsDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, at, listed, quoted, unknown


def statements(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse guards that can never be satisfied, or that ask nothing."""
    for name, policy in fleet.policies.items():
        for index, wave in enumerate(policy.waves):
            yield from _guards(wave_path(name, index), wave.guards, broken)


def unknown_judges(fleet: FleetDeclaration, known: Collection[str]) -> Iterator[Problem]:
    """Yield the checks whose judge is not one of `known`, those that a control plane has: they would never pass."""
    for name, policy in fleet.policies.items():
        for index, wave in enumerate(policy.waves):
            for number, check in enumerate(wave.guards.checks):
                if check.judge not in known:
                    path = at(at(at(wave_path(name, index), "checks"), number), "judge")
                    yield unknown(path, "judge of the control plane", check.judge, known)


def bakes(fleet: FleetDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    """Refuse bakes longer than the freshness window of a channel that uses the policy.

    A release that is signed once would be refused by the wave that the bake holds.
    """
    for channel, declared in sorted(fleet.channels.items()):
        window_path = at(at("channels", channel), "freshness_window_minutes")
        policy = fleet.policies.get(declared.rollout_policy)
        for index, wave in enumerate(() if policy is None else policy.waves):
            path = at(wave_path(declared.rollout_policy, index), "bake_minutes")
            minutes = wave.guards.bake_minutes
            if minutes > declared.freshness_window and not {path, window_path} & {*broken}:
                yield Problem(
                    path,
                    "longer than a signature is accepted, so the wave would refuse the release",
                    f"at most {declared.freshness_window}, the freshness_window_minutes of channel {channel}",
                    str(minutes),
                )


def _guards(path: str, guards: GuardsDeclaration, broken: Collection[str]) -> Iterator[Problem]:
    yield from _within(at(path, "bake_minutes"), guards.bake_minutes, 0, BAKE_MINUTES_MAX)
    if guards.approvals is not None:
        yield from _approvals(at(path, "approvals"), guards.approvals, broken)
    checks = at(path, "checks")
    if len(guards.checks) > CHECKS_MAX:
        yield Problem(checks, "too many", f"at most {CHECKS_MAX}", str(len(guards.checks)))
    names: set[str] = set()
    for index, check in enumerate(guards.checks):
        yield from _check(at(checks, index), check, names)
        names.add(check.name)
    yield from _waivable(at(path, "waivable"), guards)


def _approvals(
    path: str, approvals: ApprovalsDeclaration, broken: Collection[str]
) -> Iterator[Problem]:
    names, names_path = approvals.names, at(path, "from")
    different = set(names)
    if len(different) < len(names):
        twice = sorted(name for name in different if names.count(name) > 1)
        yield Problem(names_path, "a name twice", "each name once", listed(twice))
    for name in sorted(different):
        if not 0 < len(name) <= NAME_LENGTH_MAX:
            expected = f"names of 1 to {NAME_LENGTH_MAX} characters"
            yield Problem(names_path, "not the name of an operator", expected, quoted(name))
    if len(names) > JUDGES_MAX:
        yield Problem(names_path, "too many", f"at most {JUDGES_MAX}", str(len(names)))
    if approvals.count < 1:
        yield from _within(at(path, "count"), approvals.count, 1, COUNT_MAX)
    elif approvals.count > len(different) and names and names_path not in broken:
        yield Problem(
            at(path, "count"),
            "more approvals than operators who may approve, so the wave would never begin",
            f"at most {len(different)}, the names in from",
            str(approvals.count),
        )


def _check(path: str, check: CheckDeclaration, others: Collection[str]) -> Iterator[Problem]:
    for key, text in (("name", check.name), ("judge", check.judge)):
        if text and not is_name(text):
            yield Problem(at(path, key), "not a name", NAME_EXPECTED, quoted(text))
    if check.name in (BAKE, APPROVALS):
        expected = f"another name than {BAKE} and {APPROVALS}"
        yield Problem(at(path, "name"), "the name of another guard", expected, quoted(check.name))
    if check.name in others:
        yield Problem(at(path, "name"), "used twice", "a name of its own", quoted(check.name))
    if len(check.query) > QUERY_LENGTH_MAX:
        expected = f"at most {QUERY_LENGTH_MAX} characters"
        yield Problem(at(path, "query"), "too long", expected, str(len(check.query)))
    if check.comparison and Comparison.parse(check.comparison) is None:
        found = quoted(check.comparison)
        yield Problem(at(path, "comparison"), "not a comparison", COMPARISON_EXPECTED, found)
    if check.passes is None:
        yield Problem(
            at(path, "passes"),
            "missing: a check without passes would let the wave begin without an answer",
            "how many answers in a row must pass, at least 1",
            "nothing",
        )
    else:
        yield from _within(at(path, "passes"), check.passes, 1, COUNT_MAX)
    yield from _within(at(path, "failures"), check.failures, 0, COUNT_MAX)
    if check.inconclusive is not None:
        yield from _within(at(path, "inconclusive"), check.inconclusive, 0, COUNT_MAX)
    seconds = check.interval_seconds
    yield from _within(at(path, "interval_seconds"), seconds, INTERVAL_SECONDS_MIN, COUNT_MAX)


def _waivable(path: str, guards: GuardsDeclaration) -> Iterator[Problem]:
    bake = (BAKE,) if guards.bake_minutes else ()
    approvals = () if guards.approvals is None else (APPROVALS,)
    known = (*bake, *approvals, *(check.name for check in guards.checks))
    for name in sorted({name for name in guards.waivable if guards.waivable.count(name) > 1}):
        yield Problem(path, "a guard twice", "each guard once", quoted(name))
    for name in sorted(set(guards.waivable) - set(known)):
        expected = (
            f"guards of this wave: {listed(known)}" if known else "none: the wave has no guard"
        )
        yield Problem(path, "no guard of this wave", expected, quoted(name))


def _within(path: str, value: int, low: int, high: int) -> Iterator[Problem]:
    if not low <= value <= high:
        yield Problem(path, "out of range", f"{low} to {high}", str(value))
