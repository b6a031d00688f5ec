"""Reads a declaration from TOML tables: the keys of `fleet.toml` and their types.

Only mistakes that the types of a declaration cannot represent are refused here: wrong types, missing and unknown keys,
unknown kinds and modes. `check.validate` checks everything else, for every source of declarations.
Source: docs/spec/declarations.md, Sources.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from attrs import evolve, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import Edge, FleetChannel, FleetHost, OnDrift, Ramp
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Recall, Retry
from nixfleet_release.written.declaration import (
    BudgetDeclaration,
    FleetDeclaration,
    FrameworkDeclaration,
    PolicyDeclaration,
    WaveDeclaration,
    WaveLimit,
    WaveOrder,
)
from nixfleet_release.written.selectors import SELECTOR_EXPECTED, read_selector
from nixfleet_release.written.toml_calendar import read_calendar_entry
from nixfleet_release.written.toml_guards import read_guards
from nixfleet_release.written.toml_settings import (
    read_compliance,
    read_framework,
    read_health_check,
    read_pin,
)
from nixfleet_runtime.documents.problems import Problem, at, is_below, listed, quoted
from nixfleet_runtime.documents.tables import Document, Table
from nixfleet_state_machine.scopes.merge import FLEET, Scope, ScopeKind

T = TypeVar("T")

_PERCENTAGE = re.compile(r"(-?[0-9]{1,9})%", re.ASCII)
_RECONCILED = "ticks.heartbeat_seconds in the configuration of each agent, which is how often hosts are compared"
_STRATEGIES = (
    '"waves", or no strategy: canary, linear and exponential are lists of waves with limits, such as '
    '{ selector = "all", limit = 1 }, { selector = "all", limit = "10%" }, { rest = true }'
)
_HEALTH_GATE = 'a health check: kind = "systemd", max_failed_units = 0, in the scope of the hosts that it is for'
_LIMIT_EXPECTED = 'a number of hosts, such as 5, or a percentage in quotes, such as "10%"'


@frozen
class Parsed:
    """A declaration, and the problems of reading it.

    problems: at most one per path. unusable: the paths that have a placeholder or a guess.
    """

    declaration: FleetDeclaration
    problems: tuple[Problem, ...]
    unusable: frozenset[str]


def parse(content: Mapping[str, object]) -> Parsed:
    """Return the declaration in the tables of a document.

    A misspelt key is read as the key that was probably meant: it is one problem, and the absence of the right key
    causes
    no further ones.
    """
    as_written = Document(content)
    declaration = _fleet(as_written.root)
    unknown_keys, misspelt = as_written.unknown_keys(), as_written.misspelt()
    if not misspelt:
        unusable = frozenset(problem.path for problem in as_written.problems)
        return Parsed(declaration, (*as_written.problems, *unknown_keys), unusable)
    as_meant = Document(content, misspelt)
    declaration = _fleet(as_meant.root)
    guesses = {at(path, right) for path, keys in misspelt.items() for right in keys.values()}
    problems = tuple(
        problem
        for problem in as_meant.problems
        if problem.path not in guesses and not is_below(problem.path, guesses)
    )
    unusable = frozenset((*guesses, *(problem.path for problem in problems)))
    return Parsed(declaration, (*problems, *unknown_keys), unusable)


def _fleet(root: Table) -> FleetDeclaration:
    hosts, channels = root.sections("hosts"), root.sections("channels")
    scopes = {
        FLEET: root,
        **{Scope(ScopeKind.TAG, name): table for name, table in root.sections("tags").items()},
        **{Scope(ScopeKind.CHANNEL, name): table for name, table in channels.items()},
        **{Scope(ScopeKind.HOST, name): table for name, table in hosts.items()},
    }
    return FleetDeclaration(
        name=root.section("fleet").optional_text("name"),
        hosts=_each(hosts, _host),
        channels=_each(channels, _channel),
        policies=_each(root.sections("policies"), _policy),
        health_checks=_by_scope(scopes, "health_checks", read_health_check),
        frameworks=_each(channels, _frameworks),
        compliance=_by_scope(scopes, "compliance", read_compliance),
        pins=FrozenMap(
            {scope: read_pin(table) for scope, table in scopes.items() if scope != FLEET}
        ),
        budgets=tuple(map(_budget, root.array("budgets"))),
        edges=tuple(map(_edge, root.array("edges"))),
        channel_edges=tuple(map(_edge, root.array("channel_edges"))),
        calendar=tuple(map(read_calendar_entry, root.array("calendar"))),
    )


def _each(tables: Mapping[str, Table], read: Callable[[Table], T]) -> FrozenMap[str, T]:
    return FrozenMap({name: read(table) for name, table in tables.items()})


def _by_scope(
    scopes: Mapping[Scope, Table], key: str, read: Callable[[Table], T]
) -> FrozenMap[Scope, FrozenMap[str, T]]:
    return FrozenMap({scope: _each(table.sections(key), read) for scope, table in scopes.items()})


def _frameworks(channel: Table) -> FrozenMap[str, FrameworkDeclaration]:
    return _each(channel.sections("compliance"), read_framework)


def _host(table: Table) -> FleetHost:
    default = FleetHost(channel=table.text("channel"))
    return evolve(
        default,
        tags=table.texts("tags"),
        platform=table.optional_text("platform") or default.platform,
        pubkey=table.optional_text("pubkey"),
        enabled=table.flag("enabled", default=True),
    )


def _channel(table: Table) -> FleetChannel:
    table.unsupported("reconcile_interval_minutes", _RECONCILED)
    default = FleetChannel(rollout_policy=table.text("policy"))
    return evolve(
        default,
        freshness_window=table.integer("freshness_window_minutes", default.freshness_window),
        signing_interval_minutes=table.integer(
            "signing_interval_minutes", default.signing_interval_minutes
        ),
        on_drift=table.choice("on_drift", OnDrift.REPORT),
        enabled=table.flag("enabled", default=True),
    )


def _policy(table: Table) -> PolicyDeclaration:
    if not table.is_given("strategy", "waves"):
        table.unsupported("strategy", _STRATEGIES)
    for key in ("health_gate", "healthGate"):
        table.unsupported(key, _HEALTH_GATE)
    return PolicyDeclaration(
        on_health_failure=table.choice("on_health_failure", OnHealthFailure.HALT),
        waves=tuple(map(_wave, table.array("waves"))),
        max_failures=table.optional_integer("max_failures"),
        max_failure_pct=table.optional_integer("max_failure_pct"),
        deadlines=_deadlines(table.section("deadlines")),
        retry=_retry(table.section("retry")),
        recall=table.choice("recall", Recall.NEVER),
    )


def _deadlines(table: Table) -> Deadlines:
    return Deadlines(
        ack=_deadline(table, "ack"),
        activation=_deadline(table, "activation"),
        reboot=_deadline(table, "reboot"),
        convergence=_deadline(table, "convergence"),
    )


def _deadline(stages: Table, stage: str) -> Deadline | None:
    if not stages.has(stage):
        return None
    table = stages.section(stage)
    table.require("minutes", "a number of minutes")
    table.require("then", f"what follows, one of {listed(AtDeadline)}")
    return Deadline(
        table.integer_from("minutes", 1, at_least=1), table.choice("then", AtDeadline.WAIT)
    )


def _retry(table: Table) -> Retry:
    default = Retry()
    return Retry(
        attempts=table.integer_from("attempts", default.attempts, at_least=1),
        backoff_seconds=table.integer_from("backoff_seconds", default.backoff_seconds, at_least=0),
        factor=table.integer_from("factor", default.factor, at_least=1),
    )


def _wave(table: Table) -> WaveDeclaration:
    # A `rest` of a wrong type is refused, but it shows that the rest was meant.
    is_rest = table.flag("rest") or (table.has("rest") and not table.is_a(bool, "rest"))
    has_selector = table.has("selector")
    if is_rest == has_selector:
        found = "both" if is_rest else "neither"
        table.refuse(None, "must select its hosts once", "a selector or rest = true", found)
    selector = read_selector(table, "selector") if has_selector else None
    limit = _limit(table) if table.has("limit") else None
    if table.has("sort") and not table.has("limit"):
        table.refuse("sort", "has no effect", "a limit beside it", "none")
    return WaveDeclaration(
        selector,
        table.integer("soak_minutes", 0),
        table.instant("not_before") if table.has("not_before") else None,
        limit,
        table.choice("sort", WaveOrder.ROTATE),
        table.optional_integer("max_failures"),
        table.optional_integer("max_failure_pct"),
        read_guards(table),
    )


def _limit(table: Table) -> WaveLimit:
    """Return the limit of a wave; the placeholder for an unusable one is 1."""
    if table.is_a(int, "limit"):
        return WaveLimit(table.integer("limit", 1))
    if not table.is_a(str, "limit"):
        table.refuse_value("limit", _LIMIT_EXPECTED)
        return WaveLimit(1)
    text = table.any_text("limit") or ""
    share = _PERCENTAGE.fullmatch(text)
    if share is None:
        table.refuse("limit", "not a limit", _LIMIT_EXPECTED, quoted(text))
        return WaveLimit(1)
    return WaveLimit(int(share[1]), is_pct=True)


def _budget(table: Table) -> BudgetDeclaration:
    table.require("selector", SELECTOR_EXPECTED)
    return BudgetDeclaration(
        selector=read_selector(table, "selector"),
        max_in_flight=table.optional_integer("max_in_flight"),
        max_in_flight_pct=table.optional_integer("max_in_flight_pct"),
        ramp=_ramp(table.section("ramp")) if table.has("ramp") else None,
        max_per_minute=table.optional_integer("max_per_minute"),
    )


def _ramp(table: Table) -> Ramp:
    table.require("start", "how many hosts begin at once")
    return Ramp(
        start=table.integer_from("start", 1, at_least=1),
        factor=table.integer_from("factor", 2, at_least=1),
    )


def _edge(table: Table) -> Edge:
    return Edge(
        gates=table.text("gates"), gated=table.text("gated"), reason=table.optional_text("reason")
    )
