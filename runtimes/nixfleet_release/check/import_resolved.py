"""Imports a `fleet.resolved.json` from another tool, such as a Nix evaluation: read and checked, but not changed.

It may already be signed, and manifests contain its hash; so the result is the canonical form of the input, including
unknown fields and old names. Unknown fields have no effect. The rules are those of declarations, reported with the
paths
of the JSON.
Source: docs/spec/declarations.md, Sources; docs/spec/wire.md, JSON.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from attrs import evolve, frozen

from nixfleet_proto.codec import (
    DecodeError,
    Uncanonical,
    canonical_bytes,
    decode_fleet,
    encode_fleet,
    parse_json,
)
from nixfleet_proto.codec.json_text import member_path
from nixfleet_proto.codec.strict import camel_case
from nixfleet_proto.fleet import SCHEMA_VERSION, FleetChannel, FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_release.check.outlook import courses_of, slots_of
from nixfleet_release.check.rules import Rule, names, outcome, pace, tolerances, values
from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.declaration import (
    BudgetDeclaration,
    FleetDeclaration,
    PolicyDeclaration,
    SelectorDeclaration,
)
from nixfleet_runtime.documents.problems import Problem, keys_of, listed, quoted, unknown
from nixfleet_state_machine.scopes.expression import of_selector
from nixfleet_state_machine.scopes.selector import enabled_hosts

# The rules that apply to a resolved fleet. Not the rule about unused tags: a selector may outlive a tag.
_RULES: tuple[Rule, ...] = (
    names.names,
    names.references,
    values.channels,
    values.budgets,
    pace.budget_paces,
    outcome.cross_channel_edges,
    outcome.cycles,
)
# As resolved here; both mean what the waves say.
_STRATEGIES = frozenset(("all-at-once", "waves"))
_OLD_NAMES = frozenset(("before", "after"))
_SPELT: Mapping[str, str] = {
    "budgets": "disruptionBudgets",
    "policies": "rolloutPolicies",
    "policy": "rolloutPolicy",
    "freshness_window_minutes": "freshnessWindow",
}


@frozen
class ImportedFleet:
    """A resolved fleet without problems.

    canonical: the canonical form of the complete input. unknown_fields: the paths of fields that are not in `fleet`.
    without_effect: what it says that nothing here acts on, each with its path and what acts instead.
    """

    fleet: FleetResolved
    canonical: bytes
    unknown_fields: tuple[str, ...] = ()
    without_effect: tuple[str, ...] = ()


def import_fleet(data: bytes) -> ImportedFleet:
    """Return the fleet in `data`; `before` and `after` are accepted as old names of `gates` and `gated`.

    Raises: DeclarationError, with every problem and its path in the JSON.
    """
    try:
        parsed = parse_json(data, "fleet")
        fleet = decode_fleet(data)
        canonical = canonical_bytes(parsed)
    except DecodeError as error:
        raise DeclarationError(
            Problem(each.path, "cannot be used", each.expected, each.found)
            for each in error.problems
        ) from error
    except Uncanonical as error:
        cause = error.problem
        raise DeclarationError(
            (Problem(cause.path, "cannot be signed", cause.expected, cause.found),)
        ) from error
    problems = tuple(_problems(fleet))
    if problems:
        raise DeclarationError(problems)
    known = parse_json(encode_fleet(fleet))
    return ImportedFleet(
        fleet, canonical, tuple(_unknown_fields(parsed, known, "$")), tuple(_without_effect(fleet))
    )


def _without_effect(fleet: FleetResolved) -> Iterator[str]:
    for name, policy in sorted(fleet.rollout_policies.items()):
        path = member_path("$.rolloutPolicies", name)
        if policy.strategy not in _STRATEGIES:
            yield f"{path}.strategy: {quoted(policy.strategy)} has no effect: the waves decide"
        if policy.health_gate:
            yield f"{path}.healthGate: has no effect: declare a health check of kind systemd"
    default = FleetChannel("").reconcile_interval_minutes
    for name, channel in sorted(fleet.channels.items()):
        if channel.reconcile_interval_minutes != default:
            path = member_path("$.channels", name)
            yield (
                f"{path}.reconcileIntervalMinutes: has no effect: agents have ticks.heartbeat_seconds"
            )


def _problems(fleet: FleetResolved) -> Iterator[Problem]:
    if fleet.schema_version != SCHEMA_VERSION:
        found = str(fleet.schema_version)
        yield Problem("$.schemaVersion", "unknown version", str(SCHEMA_VERSION), found)
    declared = _as_declared(fleet)
    for rule in _RULES:
        for problem in rule(declared, ()):
            yield evolve(problem, path=_json_path(problem.path))
    for channel in fleet.waves:
        path = member_path("$.waves", channel)
        if channel not in fleet.channels:
            yield unknown(path, "channel", channel, fleet.channels)
        yield from _wave_problems(fleet, channel, path)
    for problem in policy_problems(fleet):
        yield evolve(problem, path=_json_path(problem.path))


def policy_problems(fleet: FleetResolved) -> Iterator[Problem]:
    """Yield what the waves and budgets of a resolved fleet contradict in its policies; paths as in a declaration."""
    courses = tuple(courses_of(fleet))
    yield from tolerances.of_courses(courses)
    yield from tolerances.wedges(courses, slots_of(fleet))


def _wave_problems(fleet: FleetResolved, channel: str, path: str) -> Iterator[Problem]:
    waves = fleet.waves[channel]
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    for index, wave in enumerate(waves):
        if not wave.hosts:
            yield Problem(f"{path}[{index}].hosts", "empty wave", "at least one host", "none")
        for at, host in enumerate(wave.hosts):
            place = f"{path}[{index}].hosts[{at}]"
            if host not in fleet.hosts:
                yield unknown(place, "host", host, fleet.hosts)
            elif fleet.hosts[host].channel != channel:
                expected, found = f"a host of channel {channel}", fleet.hosts[host].channel
                yield Problem(
                    place, "host of another channel", expected, f"{host} in channel {found}"
                )
            elif host not in enabled:
                yield Problem(place, "a disabled host in a wave", "enabled hosts", host)
    waves_of = Counter(host for wave in waves for host in set(wave.hosts))
    if twice := [host for host, count in waves_of.items() if count > 1]:
        yield Problem(path, "hosts in two waves", "each host in one wave", listed(twice))
    channel_hosts = {name for name, host in enabled.items() if host.channel == channel}
    if waves and (left_out := channel_hosts - waves_of.keys()):
        yield Problem(path, "hosts in no wave", "each host in one wave", listed(left_out))


def _as_declared(fleet: FleetResolved) -> FleetDeclaration:
    """Return the parts of a resolved fleet that a declaration also has; its selectors mention no names."""
    budgets = (
        BudgetDeclaration(
            SelectorDeclaration(of_selector(budget.selector), ()),
            budget.max_in_flight,
            budget.max_in_flight_pct,
            budget.ramp,
            budget.max_per_minute,
        )
        for budget in fleet.disruption_budgets
    )
    return FleetDeclaration(
        hosts=fleet.hosts,
        channels=fleet.channels,
        policies=FrozenMap({name: PolicyDeclaration() for name in fleet.rollout_policies}),
        budgets=tuple(budgets),
        edges=fleet.edges,
        channel_edges=fleet.channel_edges,
    )


def _json_path(path: str) -> str:
    """Return the JSON path that corresponds to the path in a declaration."""
    spelt = "$"
    keys = keys_of(path)
    for index, key in enumerate(keys):
        is_name = index == 1 and keys[0] in ("hosts", "channels", "policies", "waves")
        if isinstance(key, str) and not is_name:
            key = _SPELT.get(key, camel_case(key))
        spelt = member_path(spelt, key)
    return spelt


def _unknown_fields(read: JsonValue, known: JsonValue, path: str) -> Iterator[str]:
    if isinstance(read, Mapping) and isinstance(known, Mapping):
        for name, value in read.items():
            if name in known:
                yield from _unknown_fields(value, known[name], member_path(path, name))
            elif name not in _OLD_NAMES:
                yield member_path(path, name)
    elif isinstance(read, list) and isinstance(known, list):
        for index, (value, known_value) in enumerate(zip(read, known, strict=True)):
            yield from _unknown_fields(value, known_value, member_path(path, index))
