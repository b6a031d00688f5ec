"""Declares a fleet in Python: `Fleet().host(…).channel(…)`. Typed and immutable: every call returns a new fleet.

Calls build the same tables as a TOML file, with the line of the call as the place. So the same parser and rules apply
as for TOML.
Source: docs/spec/declarations.md, Sources.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeAlias, assert_never

import attrs
from attrs import evolve, field, frozen

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.fleet import OnDrift, Ramp
from nixfleet_proto.health_check import ControlOverride, HealthCheck, kind_of
from nixfleet_proto.policy import Deadline, Deadlines, Recall, Retry
from nixfleet_proto.steering.calendar import CalendarKind
from nixfleet_proto.steering.guards import Approvals, Check
from nixfleet_release.check.checked import CheckedFleet, check_written
from nixfleet_release.written.declaration import WaveOrder
from nixfleet_release.written.files import Places, Written
from nixfleet_runtime.documents.problems import DUPLICATE, Place, Problem, at
from nixfleet_state_machine.scopes.expression import (
    EVERYBODY,
    AllOf,
    AnyOf,
    ChannelIs,
    Expression,
    HasTag,
    HostIs,
    Not,
)
from nixfleet_state_machine.scopes.merge import FLEET, Scope, ScopeKind

SelectorLike: TypeAlias = Expression | str
"""An expression, or its text form: `tags("web") & ~hosts("web-03")`, `"tags:web & !hosts:web-03"`."""

_TABLES: Mapping[ScopeKind, str] = {
    ScopeKind.TAG: "tags",
    ScopeKind.CHANNEL: "channels",
    ScopeKind.HOST: "hosts",
}


@frozen
class Wave:
    """One wave of a policy. Created by `wave` and `rest`."""

    selector: SelectorLike | None
    soak_minutes: int = 0
    not_before: datetime | None = None
    limit: int | str | None = None
    sort: WaveOrder | None = None
    max_failures: int | None = None
    max_failure_pct: int | None = None
    bake_minutes: int | None = None
    approvals: Approvals | None = None
    checks: tuple[Check, ...] = ()
    waivable: tuple[str, ...] = ()


def wave(
    selector: SelectorLike,
    *,
    soak_minutes: int = 0,
    not_before: datetime | None = None,
    limit: int | str | None = None,
    sort: WaveOrder | None = None,
    max_failures: int | None = None,
    max_failure_pct: int | None = None,
    bake_minutes: int | None = None,
    approvals: Approvals | None = None,
    checks: Iterable[Check] = (),
    waivable: Iterable[str] = (),
) -> Wave:
    """Return the wave of the hosts that `selector` selects.

    not_before: aware; the earliest time at which it begins. limit: how many of the hosts, as a number or a percentage
    such as "10%". sort: which come first; default: other hosts for each ref. max_failures, max_failure_pct: how many
    may fail; if neither is given, those of the policy. bake_minutes, approvals, checks: what must have happened before
    it begins. waivable: the names of those guards that an operator may waive.
    """
    return Wave(
        selector,
        soak_minutes,
        not_before,
        limit,
        sort,
        max_failures,
        max_failure_pct,
        bake_minutes,
        approvals,
        tuple(checks),
        tuple(waivable),
    )


def rest(
    *,
    soak_minutes: int = 0,
    not_before: datetime | None = None,
    max_failures: int | None = None,
    max_failure_pct: int | None = None,
    bake_minutes: int | None = None,
    approvals: Approvals | None = None,
    checks: Iterable[Check] = (),
    waivable: Iterable[str] = (),
) -> Wave:
    """Return the wave of the hosts that are in no other wave. The arguments are as in `wave`."""
    return Wave(
        None,
        soak_minutes,
        not_before,
        max_failures=max_failures,
        max_failure_pct=max_failure_pct,
        bake_minutes=bake_minutes,
        approvals=approvals,
        checks=tuple(checks),
        waivable=tuple(waivable),
    )


def on_tag(name: str) -> Scope:
    """Return the scope of the hosts with a tag."""
    return Scope(ScopeKind.TAG, name)


def on_channel(name: str) -> Scope:
    """Return the scope of the hosts of a channel."""
    return Scope(ScopeKind.CHANNEL, name)


def on_host(name: str) -> Scope:
    """Return the scope of one host."""
    return Scope(ScopeKind.HOST, name)


@frozen
class _Call:
    """One call: its table at `keys`, or an item to append to the array there, and its place."""

    keys: tuple[str, ...]
    table: Mapping[str, object]
    place: Place
    is_item: bool = False


@frozen
class Fleet:
    """A fleet declaration. Nothing is checked before `check`, which reports all problems at once."""

    name: str | None = None
    _calls: tuple[_Call, ...] = field(default=(), repr=False)

    def host(
        self,
        name: str,
        *,
        channel: str,
        tags: Iterable[str] = (),
        platform: str | None = None,
        pubkey: str | None = None,
        enabled: bool | None = None,
    ) -> Self:
        """Declare a host in `channel`. enabled: `False` keeps it out of every rollout."""
        table = {
            "channel": channel,
            "tags": tags,
            "platform": platform,
            "pubkey": pubkey,
            "enabled": enabled,
        }
        return self._with(("hosts", name), table)

    def channel(
        self,
        name: str,
        *,
        policy: str,
        signing_interval_minutes: int | None = None,
        freshness_window_minutes: int | None = None,
        on_drift: OnDrift | None = None,
        enabled: bool | None = None,
    ) -> Self:
        """Declare a channel, whose rollouts use `policy`. enabled: `False` keeps it from releasing anything.

        on_drift: what follows when a converged host runs another closure; default: it is reported.
        """
        table = {
            "policy": policy,
            "signing_interval_minutes": signing_interval_minutes,
            "freshness_window_minutes": freshness_window_minutes,
            "on_drift": on_drift,
            "enabled": enabled,
        }
        return self._with(("channels", name), table)

    def policy(
        self,
        name: str,
        *waves: Wave,
        on_health_failure: OnHealthFailure | None = None,
        max_failures: int | None = None,
        max_failure_pct: int | None = None,
        deadlines: Deadlines | None = None,
        retry: Retry | None = None,
        recall: Recall | None = None,
    ) -> Self:
        """Declare a rollout policy with these waves; without any, all hosts are one wave.

        max_failures, max_failure_pct: how many hosts of a wave that says nothing itself may fail, default none.
        deadlines: how long each stage may take, default for ever. retry: how often a host may try, default once.
        recall: who may have hosts go back that did not fail, default never.
        """
        table = {
            "on_health_failure": on_health_failure,
            "waves": list(map(_wave, waves)),
            "max_failures": max_failures,
            "max_failure_pct": max_failure_pct,
            "deadlines": deadlines,
            "retry": retry,
            "recall": recall,
        }
        return self._with(("policies", name), table)

    def budget(
        self,
        selector: SelectorLike,
        *,
        max_in_flight: int | None = None,
        max_in_flight_pct: int | None = None,
        ramp: Ramp | None = None,
        max_per_minute: int | None = None,
    ) -> Self:
        """Limit how many of the hosts that `selector` selects may be in flight at once, and how fast they begin.

        ramp: how the slots grow to that number in each rollout. max_per_minute: dispatches in any 60 seconds.
        """
        table = {
            "selector": _selector(selector),
            "max_in_flight": max_in_flight,
            "max_in_flight_pct": max_in_flight_pct,
            "ramp": ramp,
            "max_per_minute": max_per_minute,
        }
        return self._with(("budgets",), table, is_item=True)

    def window(self, name: str, selector: SelectorLike | None = None, **rule: Any) -> Self:
        """Declare a window: the hosts that `selector` selects begin only while it, or another window, is open.

        selector: `None` for every host. rule: the keys of `[[calendar]]`, such as zone, repeat, start and minutes.
        """
        return self._calendar(name, CalendarKind.ALLOW, selector, rule)

    def freeze(self, name: str, selector: SelectorLike | None = None, **rule: Any) -> Self:
        """Declare a freeze: no host that `selector` selects begins while it is active. As `window`."""
        return self._calendar(name, CalendarKind.DENY, selector, rule)

    def _calendar(
        self,
        name: str,
        kind: CalendarKind,
        selector: SelectorLike | None,
        rule: Mapping[str, object],
    ) -> Self:
        chosen = None if selector is None else _selector(selector)
        table = {"name": name, "kind": kind, "selector": chosen, **rule}
        return self._with(("calendar",), table, is_item=True)

    def edge(self, *, gates: str, gated: str, reason: str | None = None) -> Self:
        """Declare that the host `gated` waits for the host `gates`."""
        table = {"gates": gates, "gated": gated, "reason": reason}
        return self._with(("edges",), table, is_item=True)

    def channel_edge(self, *, gates: str, gated: str, reason: str | None = None) -> Self:
        """Declare that the channel `gated` waits for the channel `gates`."""
        table = {"gates": gates, "gated": gated, "reason": reason}
        return self._with(("channel_edges",), table, is_item=True)

    def health_check(self, name: str, check: HealthCheck, *, on: Scope = FLEET) -> Self:
        """Declare a health check in a scope."""
        table = {"kind": kind_of(check), **_fields(check)}
        return self._with((*_keys(on), "health_checks", name), table)

    def framework(
        self,
        name: str,
        *,
        channel: str,
        evidence_path: str,
        interval_seconds: int | None = None,
        max_age_secs: int | None = None,
        mode: ProbeMode | None = None,
        reason: str | None = None,
        control_overrides: Mapping[str, ControlOverride] | None = None,
    ) -> Self:
        """Require a compliance framework of the hosts of a channel."""
        table = {
            "evidence_path": evidence_path,
            "interval_seconds": interval_seconds,
            "max_age_secs": max_age_secs,
            "mode": mode,
            "reason": reason,
            "control_overrides": control_overrides,
        }
        return self._with(("channels", channel, "compliance", name), table)

    def compliance(
        self,
        name: str,
        *,
        on: Scope = FLEET,
        mode: ProbeMode | None = None,
        reason: str | None = None,
        control_overrides: Mapping[str, ControlOverride] | None = None,
    ) -> Self:
        """Set the mode of a framework, its reason and control overrides in a scope."""
        table = {"mode": mode, "reason": reason, "control_overrides": control_overrides}
        return self._with((*_keys(on), "compliance", name), table)

    def pin(
        self,
        commit: str,
        *,
        on: Scope,
        reason: str | None = None,
        expires_at: datetime | None = None,
    ) -> Self:
        """Pin the hosts of a scope to the closures built from `commit`."""
        table = {"commit": commit, "reason": reason, "expires_at": expires_at}
        return self._with((*_keys(on), "pin"), table)

    def check(self, *, now: datetime | None = None) -> CheckedFleet:
        """Return the checked fleet.

        now: pins that have expired by then are ignored; `None`: all pins are in effect.
        Raises: DeclarationError, with every problem and the place of its call.
        """
        return check_written(self._written(_caller(2)), now=now)

    def _with(
        self, keys: tuple[str, ...], table: Mapping[str, object], *, is_item: bool = False
    ) -> Self:
        values = {key: _plain(value) for key, value in table.items() if value is not None}
        return evolve(self, calls=(*self._calls, _Call(keys, values, _caller(3), is_item)))

    def _written(self, whole: Place) -> Written:
        tables = _Tables()
        if self.name is not None:
            tables.content["fleet"] = {"name": self.name}
        for call in self._calls:
            tables.add(call)
        return Written(tables.content, Places(whole, values=tables.places), tuple(tables.problems))


class _Tables:
    """The tables of all calls, as one document under construction."""

    def __init__(self) -> None:
        self.content: dict[str, object] = {}
        self.places: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self._declared: set[str] = set()

    def add(self, call: _Call) -> None:
        """Add the table of one call; of duplicates, the first one counts."""
        table, path = self.content, ""
        for key in call.keys[:-1]:
            path = at(path, key)
            self.places.setdefault(path, call.place)
            table = _inner(table, key)
        path = at(path, call.keys[-1])
        if call.is_item:
            items = table.setdefault(call.keys[-1], [])
            assert isinstance(items, list)
            self.places[at(path, len(items))] = call.place
            items.append(dict(call.table))
        elif path in self._declared:
            first = f"one declaration (the first is at {self.places[path]})"
            self.problems.append(Problem(path, DUPLICATE, first, "another", place=call.place))
        else:
            self._declared.add(path)
            self.places[path] = call.place
            _inner(table, call.keys[-1]).update(call.table)


def _inner(table: dict[str, object], key: str) -> dict[str, object]:
    inner = table.setdefault(key, {})
    assert isinstance(inner, dict)
    return inner


def _caller(depth: int) -> Place:
    """Return the position of the caller `depth` frames up the stack."""
    frame = sys._getframe(depth)
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _keys(scope: Scope) -> tuple[str, ...]:
    return () if scope.kind is ScopeKind.FLEET else (_TABLES[scope.kind], scope.name)


def _wave(declared: Wave) -> dict[str, object]:
    which: dict[str, object] = (
        {"rest": True} if declared.selector is None else {"selector": _selector(declared.selector)}
    )
    optional = {
        "not_before": declared.not_before,
        "limit": declared.limit,
        "sort": declared.sort,
        "max_failures": declared.max_failures,
        "max_failure_pct": declared.max_failure_pct,
        "bake_minutes": declared.bake_minutes,
        "approvals": None if declared.approvals is None else _approvals(declared.approvals),
        "checks": declared.checks or None,
        "waivable": declared.waivable or None,
    }
    given = {key: _plain(value) for key, value in optional.items() if value is not None}
    return {**which, "soak_minutes": declared.soak_minutes, **given}


def _approvals(approvals: Approvals) -> dict[str, object]:
    return {"count": approvals.count, "from": list(approvals.names)}


def _selector(selector: SelectorLike) -> object:
    """Return a text form unchanged, and an expression as a table. Tables have no `or`: De Morgan's laws express it."""
    if isinstance(selector, str):
        return selector
    match selector:
        case HasTag():
            return {"tags": [selector.name]}
        case HostIs():
            return {"hosts": sorted(selector.names)}
        case ChannelIs() if len(selector.names) == 1:
            return {"channel": next(iter(selector.names))}
        case ChannelIs():
            one_each = (ChannelIs(frozenset((name,))) for name in sorted(selector.names))
            return _selector(AnyOf(tuple(one_each)))
        case AllOf() if selector == EVERYBODY:
            return {"all": True}
        case AllOf():
            return {"and": list(map(_selector, selector.parts))}
        case AnyOf():
            return {"not": _selector(AllOf(tuple(map(Not, selector.parts))))}
        case Not():
            return {"not": _selector(selector.part)}
        case _:
            assert_never(selector)


def _fields(record: "attrs.AttrsInstance") -> dict[str, object]:
    """Return the fields of a record in TOML form, without those that are `None`."""
    values = {each.name: getattr(record, each.name) for each in attrs.fields(type(record))}
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: object) -> object:
    """Return a value in TOML form."""
    match value:
        case StrEnum():
            return value.value
        case ControlOverride() | Deadlines() | Deadline() | Retry() | Ramp() | Check():
            return _fields(value)
        case str():
            return value
        case Mapping():
            return {name: _plain(each) for name, each in value.items()}
        case Iterable():
            return list(map(_plain, value))
        case _:
            return value
