"""One merge for all settings that are declared in scopes: `fleet < tag < channel < host`, by name.

An entry replaces a whole entry. A setting that merges field by field declares one entry per field; a setting with
another order of scopes passes its own `precedence`. Nothing is guessed: every value carries its scope and what it
shadowed. Two scopes of equal rank that declare one name are a conflict, even if a more specific scope overrides both.
Source: docs/spec/declarations.md, Scopes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from attrs import frozen

from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap

V = TypeVar("V")


class ScopeKind(StrEnum):
    """The four kinds of scope in which a setting may be declared."""

    FLEET = "fleet"
    TAG = "tag"
    CHANNEL = "channel"
    HOST = "host"


# Least specific first: a later scope wins.
PRECEDENCE = (ScopeKind.FLEET, ScopeKind.TAG, ScopeKind.CHANNEL, ScopeKind.HOST)


@frozen
class Scope:
    """One scope: its kind and its name. The fleet is the only one of its kind and has no name."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}".rstrip()


FLEET = Scope(ScopeKind.FLEET)


@frozen
class Declared(Generic[V]):
    """A value and the scope that declares it."""

    scope: Scope
    value: V


@frozen
class Layer(Generic[V]):
    """All that one scope declares, by name."""

    scope: Scope
    entries: FrozenMap[str, V]


@frozen
class Winner(Generic[V]):
    """The effective value of a name: the value, its scope, and what it shadowed, least specific first."""

    scope: Scope
    value: V
    shadowed: tuple[Declared[V], ...] = ()


@frozen
class Conflict(Generic[V]):
    """Scopes of equal rank that declare one name, sorted by scope."""

    name: str
    rivals: tuple[Declared[V], ...]


@frozen
class Merged(Generic[V]):
    """The result of merging layers, sorted by name. A name in conflict has no winner."""

    winners: FrozenMap[str, Winner[V]]
    conflicts: tuple[Conflict[V], ...] = ()

    @property
    def values(self) -> FrozenMap[str, V]:
        """The winning values by name."""
        return FrozenMap({name: winner.value for name, winner in self.winners.items()})


def scopes_of(hostname: str, host: FleetHost) -> tuple[Scope, ...]:
    """Return the scopes that apply to a host, least specific first."""
    tags = (Scope(ScopeKind.TAG, tag) for tag in sorted(set(host.tags)))
    return (FLEET, *tags, Scope(ScopeKind.CHANNEL, host.channel), Scope(ScopeKind.HOST, hostname))


def layers_of(
    hostname: str, host: FleetHost, declared: Mapping[Scope, FrozenMap[str, V]]
) -> tuple[Layer[V], ...]:
    """Return the declarations of the scopes that apply to a host. declared: those of the whole fleet, by scope."""
    scopes = scopes_of(hostname, host)
    return tuple(Layer(scope, declared[scope]) for scope in scopes if scope in declared)


def merge(layers: Iterable[Layer[V]], precedence: tuple[ScopeKind, ...] = PRECEDENCE) -> Merged[V]:
    """Return the merge of `layers`, in any order: for each name the value of its most specific scope.

    precedence: the kinds of all layers, least specific first.
    """
    winners: dict[str, Winner[V]] = {}
    conflicts: list[Conflict[V]] = []
    for name, ranked in _by_name(layers, precedence):
        rivals = _rivals(ranked)
        if rivals:
            conflicts.append(Conflict(name, rivals))
        else:
            winners[name] = Winner(ranked[-1].scope, ranked[-1].value, tuple(ranked[:-1]))
    return Merged(FrozenMap(winners), tuple(conflicts))


def _by_name(
    layers: Iterable[Layer[V]], precedence: tuple[ScopeKind, ...]
) -> Iterator[tuple[str, list[Declared[V]]]]:
    declared: dict[str, list[Declared[V]]] = {}
    for layer in sorted(
        layers, key=lambda layer: (precedence.index(layer.scope.kind), layer.scope.name)
    ):
        for name, value in layer.entries.items():
            declared.setdefault(name, []).append(Declared(layer.scope, value))
    for name in sorted(declared):
        yield name, declared[name]


def _rivals(ranked: list[Declared[V]]) -> tuple[Declared[V], ...]:
    declared_in = Counter(each.scope.kind for each in ranked)
    return tuple(each for each in ranked if declared_in[each.scope.kind] > 1)
