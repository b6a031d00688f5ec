"""A fleet declared in Python: `Fleet().host(…).channel(…)`. Typed, and never changed: every call gives a new one.

What is built are the tables that a TOML file would have, with the line of each call in place of the line in
the file. So all that is known of declarations is known here too: what may be said, what is wrong with it, and
what it comes to.
Source: docs/spec/declarations.md, Sources.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Self, TypeAlias, assert_never

import attrs
from attrs import evolve, field, frozen

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.health_check import ControlOverride, HealthCheck, kind_of
from nixfleet_release.check.checked import CheckedFleet, check_written
from nixfleet_release.written.files import Places, Written
from nixfleet_runtime.documents.problems import SAID_TWICE, Place, Problem, at
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
"""An expression, or the line of one: `tags("web") & ~hosts("web-03")`, `"tags:web & !hosts:web-03"`."""

_TABLES: Mapping[ScopeKind, str] = {
    ScopeKind.TAG: "tags",
    ScopeKind.CHANNEL: "channels",
    ScopeKind.HOST: "hosts",
}


@frozen
class Wave:
    """One wave of a policy; `wave` and `rest` make them."""

    selector: SelectorLike | None
    soak_minutes: int = 0


def wave(selector: SelectorLike, *, soak_minutes: int = 0) -> Wave:
    """Return the wave of the hosts that `selector` means."""
    return Wave(selector, soak_minutes)


def rest(*, soak_minutes: int = 0) -> Wave:
    """Return the wave of the hosts that are in no other."""
    return Wave(None, soak_minutes)


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
class _Said:
    """What one call says: a table, at these keys, or one item more of the array there."""

    keys: tuple[str, ...]
    table: Mapping[str, object]
    place: Place
    is_item: bool = False


@frozen
class Fleet:
    """A fleet as it was declared so far. Nothing is checked before `check`, which tells all problems at once."""

    name: str | None = None
    _said: tuple[_Said, ...] = field(default=(), repr=False)

    def host(
        self,
        name: str,
        *,
        channel: str,
        tags: Iterable[str] = (),
        platform: str | None = None,
        pubkey: str | None = None,
    ) -> Self:
        """Declare a machine that follows `channel`."""
        table = {"channel": channel, "tags": tags, "platform": platform, "pubkey": pubkey}
        return self._with(("hosts", name), table)

    def channel(
        self,
        name: str,
        *,
        policy: str,
        signing_interval_minutes: int | None = None,
        freshness_window_minutes: int | None = None,
        reconcile_interval_minutes: int | None = None,
    ) -> Self:
        """Declare a channel, whose rollouts go by `policy`."""
        table = {
            "policy": policy,
            "signing_interval_minutes": signing_interval_minutes,
            "freshness_window_minutes": freshness_window_minutes,
            "reconcile_interval_minutes": reconcile_interval_minutes,
        }
        return self._with(("channels", name), table)

    def policy(
        self, name: str, *waves: Wave, on_health_failure: OnHealthFailure | None = None
    ) -> Self:
        """Declare how rollouts go: in these waves, or all hosts at once."""
        table = {"on_health_failure": on_health_failure, "waves": list(map(_wave, waves))}
        return self._with(("policies", name), table)

    def budget(
        self,
        selector: SelectorLike,
        *,
        max_in_flight: int | None = None,
        max_in_flight_pct: int | None = None,
    ) -> Self:
        """Limit how many of the hosts that `selector` means may be under way at once."""
        table = {
            "selector": _selector(selector),
            "max_in_flight": max_in_flight,
            "max_in_flight_pct": max_in_flight_pct,
        }
        return self._with(("budgets",), table, is_item=True)

    def edge(self, *, gates: str, gated: str, reason: str | None = None) -> Self:
        """Let the host `gated` wait for the host `gates`."""
        table = {"gates": gates, "gated": gated, "reason": reason}
        return self._with(("edges",), table, is_item=True)

    def channel_edge(self, *, gates: str, gated: str, reason: str | None = None) -> Self:
        """Let the channel `gated` wait for the channel `gates`."""
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
        """Hold the hosts of a channel to a compliance framework."""
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
        """Say how a framework counts in a scope other than the channel's that declares it."""
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
        """Let the hosts of a scope stay with what was built from `commit`."""
        table = {"commit": commit, "reason": reason, "expires_at": expires_at}
        return self._with((*_keys(on), "pin"), table)

    def check(self, *, now: datetime | None = None) -> CheckedFleet:
        """Return what was declared, if it is in order.

        now: pins that have expired by then count no more; with `None`, all count.
        Raises: DeclarationError, with every problem and the call that it is in.
        """
        return check_written(self._written(_caller(2)), now=now)

    def _with(
        self, keys: tuple[str, ...], table: Mapping[str, object], *, is_item: bool = False
    ) -> Self:
        said = {key: _plain(value) for key, value in table.items() if value is not None}
        return evolve(self, said=(*self._said, _Said(keys, said, _caller(3), is_item)))

    def _written(self, whole: Place) -> Written:
        tables = _Tables()
        if self.name is not None:
            tables.content["fleet"] = {"name": self.name}
        for said in self._said:
            tables.add(said)
        return Written(tables.content, Places(whole, values=tables.places), tuple(tables.problems))


class _Tables:
    """What calls said, as one document, while it is put together."""

    def __init__(self) -> None:
        self.content: dict[str, object] = {}
        self.places: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self._said: set[str] = set()

    def add(self, said: _Said) -> None:
        """Add what one call says; what was said before stands."""
        table, path = self.content, ""
        for key in said.keys[:-1]:
            path = at(path, key)
            self.places.setdefault(path, said.place)
            table = _inner(table, key)
        path = at(path, said.keys[-1])
        if said.is_item:
            items = table.setdefault(said.keys[-1], [])
            assert isinstance(items, list)
            self.places[at(path, len(items))] = said.place
            items.append(dict(said.table))
        elif path in self._said:
            first = f"it once (the first is at {self.places[path]})"
            self.problems.append(Problem(path, SAID_TWICE, first, "it again", place=said.place))
        else:
            self._said.add(path)
            self.places[path] = said.place
            _inner(table, said.keys[-1]).update(said.table)


def _inner(table: dict[str, object], key: str) -> dict[str, object]:
    inner = table.setdefault(key, {})
    assert isinstance(inner, dict)
    return inner


def _caller(depth: int) -> Place:
    """Where the program is that called the function `depth` calls below this one."""
    frame = sys._getframe(depth)
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _keys(scope: Scope) -> tuple[str, ...]:
    return () if scope.kind is ScopeKind.FLEET else (_TABLES[scope.kind], scope.name)


def _wave(declared: Wave) -> dict[str, object]:
    which: dict[str, object] = (
        {"rest": True} if declared.selector is None else {"selector": _selector(declared.selector)}
    )
    return {**which, "soak_minutes": declared.soak_minutes}


def _selector(selector: SelectorLike) -> object:
    """A line as it is; an expression as the table that says it, which knows no `or`."""
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
    """The fields of a record that TOML would give: those that are not absent."""
    values = {it.name: getattr(record, it.name) for it in attrs.fields(type(record))}
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: object) -> object:
    """A value as TOML has it."""
    match value:
        case StrEnum():
            return value.value
        case ControlOverride():
            return _fields(value)
        case str():
            return value
        case Mapping():
            return {name: _plain(it) for name, it in value.items()}
        case Iterable():
            return list(map(_plain, value))
        case _:
            return value
