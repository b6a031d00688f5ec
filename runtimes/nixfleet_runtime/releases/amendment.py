"""What a manifest of a rollout that is in force may change: hosts join and leave, and nothing else differs. Pure.

Only what concerns hosts that stay is compared. A host that joins brings its own edges and its place in budgets, and a
selector that had to be written as a list of hosts names it.
Source: docs/spec/policy.md, Members.
"""

from collections.abc import Iterator, Mapping, Set
from typing import Final, TypeGuard

from attrs import evolve, fields, frozen, has

from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.fleet import RolloutPolicy, Selector
from nixfleet_proto.manifest import ManifestBudget, RolloutManifest
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_state_machine.planner.guards.words import declared_words
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.scopes.selector import summary

_SHOWN_MAX: Final = 20
"""All of them are counted. A forgotten ref changes every host, and a refusal is a row of the log."""
_TERMS_BY_HOST: Final = frozenset({"targets", "wave_of", "budgets", "host_edges"})
_TERMS_OF_POLICY: Final = frozenset({"deadlines", "retry"})
_NONE: Final = "none"


@frozen
class SignedTerms:
    """A manifest, and the terms that it gives with its fleet."""

    manifest: RolloutManifest
    terms: RolloutTerms


def amendment_objection(before: SignedTerms, after: SignedTerms) -> str | None:
    """Return why `after` does not amend `before`, with each difference and its path; `None` if it does."""
    problems = tuple(differences(before, after))
    if not problems:
        return None
    shown = "; ".join(map(str, problems[:_SHOWN_MAX]))
    more = len(problems) - _SHOWN_MAX
    rest = f"; and {more} more" if more > 0 else ""
    return (
        f"{before.terms.rollout_id} is in force with other terms: {shown}{rest}. "
        "Under the same ref only hosts may be added or removed: expected that, or a new channel ref"
    )


def differences(before: SignedTerms, after: SignedTerms) -> Iterator[ValueProblem]:
    """Yield everything in which `after` differs from `before`, but for hosts that joined or left."""
    stay = before.terms.targets.keys() & after.terms.targets.keys()
    yield from _of_hosts(before.terms, after.terms, stay)
    yield from _of_terms(before.terms, after.terms, stay)
    yield from _of_budgets(before.manifest, after.manifest, stay)
    yield from _of_policy(before.manifest.rollout_policy, after.manifest.rollout_policy)


def _of_hosts(before: RolloutTerms, after: RolloutTerms, stay: Set[str]) -> Iterator[ValueProblem]:
    for host in sorted(stay):
        closure, other = before.targets[host], after.targets[host]
        if closure != other:
            yield ValueProblem(f"targets[{host!r}]", repr(closure), repr(other))
        wave, another = before.wave_of.get(host), after.wave_of.get(host)
        if wave != another:
            yield ValueProblem(f"wave_of[{host!r}]", _wave(wave), _wave(another))


def _wave(wave: int | None) -> str:
    return "no wave" if wave is None else f"wave {wave}"


def _of_terms(before: RolloutTerms, after: RolloutTerms, stay: Set[str]) -> Iterator[ValueProblem]:
    edges, others = _edges(before, stay), _edges(after, stay)
    if edges != others:
        yield ValueProblem("host_edges", _named(edges), _named(others))
    for field in fields(RolloutTerms):
        if field.name not in _TERMS_BY_HOST | _TERMS_OF_POLICY:
            yield from _field(field.name, getattr(before, field.name), getattr(after, field.name))


def _edges(terms: RolloutTerms, hosts: Set[str]) -> set[tuple[str, str]]:
    ends = ((edge.gates, edge.gated) for edge in terms.host_edges)
    return {(gates, gated) for gates, gated in ends if gates in hosts and gated in hosts}


def _named(edges: set[tuple[str, str]]) -> str:
    return ", ".join(f"{gated} waits for {gates}" for gates, gated in sorted(edges)) or _NONE


def _of_budgets(
    before: RolloutManifest, after: RolloutManifest, stay: Set[str]
) -> Iterator[ValueProblem]:
    old, new = _budgets(before, stay), _budgets(after, stay)
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        path = f"budgets[{name!r}]"
        if was is None or now is None:
            yield ValueProblem(path, _budget(was), _budget(now))
            continue
        yield from _field(f"{path}.max_in_flight", was.max_in_flight, now.max_in_flight)
        yield from _field(f"{path}.max_in_flight_pct", was.max_in_flight_pct, now.max_in_flight_pct)
        yield from _field(f"{path}.ramp", was.ramp, now.ramp)
        yield from _field(f"{path}.max_per_minute", was.max_per_minute, now.max_per_minute)
        for host in sorted(stay & (set(was.hosts) ^ set(now.hosts))):
            expected, found = ("a member", _NONE) if host in was.hosts else (_NONE, "a member")
            yield ValueProblem(f"{path}.hosts[{host!r}]", expected, found)


def _budgets(manifest: RolloutManifest, stay: Set[str]) -> Mapping[str, ManifestBudget]:
    return {
        summary(_without(budget.selector, stay)): budget for budget in manifest.disruption_budgets
    }


def _budget(budget: ManifestBudget | None) -> str:
    return _NONE if budget is None else "a budget"


def _without(selector: Selector, stay: Set[str]) -> Selector:
    """Return the selector without the hosts that it names and that joined or left."""
    return evolve(selector, hosts=tuple(host for host in selector.hosts if host in stay))


def _of_policy(before: RolloutPolicy, after: RolloutPolicy) -> Iterator[ValueProblem]:
    for field in fields(RolloutPolicy):
        if field.name == "waves":
            # Whom they select is compared host by host: selectors may be lists of hosts.
            was, now = (
                tuple(evolve(wave, selector=Selector()) for wave in policy.waves)
                for policy in (before, after)
            )
            yield from _field("rollout_policy.waves", was, now)
        else:
            path = f"rollout_policy.{field.name}"
            yield from _field(path, getattr(before, field.name), getattr(after, field.name))


def _field(path: str, was: object, now: object) -> Iterator[ValueProblem]:
    """Yield the innermost parts in which two values differ, with their paths."""
    form: type = type(was)
    if was == now:
        return
    if _are_parts(was) and _are_parts(now) and len(was) == len(now):
        for index, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _field(f"{path}[{index}]", one, other)
    elif has(form) and form is type(now) and not _has_words(was):
        for field in fields(form):
            inner = f"{path}.{field.name}"
            yield from _field(inner, getattr(was, field.name), getattr(now, field.name))
    else:
        yield ValueProblem(path, _shown(was), _shown(now))


def _are_parts(value: object) -> TypeGuard[tuple[object, ...]]:
    """Whether a value has parts with fields, each of which has a place of its own."""
    return isinstance(value, tuple) and any(has(type(each)) for each in value)


def _has_words(value: object) -> bool:
    """Whether a value is shown as a whole: there are words for it."""
    return isinstance(value, WaveGuards) or type(value).__str__ is not object.__str__


def _shown(value: object) -> str:
    """Return a value in words; of an object those fields that do not have their default."""
    match value:
        case None:
            return _NONE
        case WaveGuards():
            return "; ".join(declared_words(value)) or _NONE
        case tuple():
            return f"[{', '.join(map(_shown, value))}]" if value else _NONE
        case _:
            return _fields_shown(value, type(value))


def _fields_shown(value: object, form: type) -> str:
    if not has(form) or _has_words(value):
        return str(value)
    named = (
        f"{field.name} {_shown(getattr(value, field.name))}"
        for field in fields(form)
        if getattr(value, field.name) != field.default
    )
    return " and ".join(named) or "the default"
