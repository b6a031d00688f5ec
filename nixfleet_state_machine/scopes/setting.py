"""Settings that are declared in scopes. Each kind of setting defines its entries; merging and explaining are here.

Health checks, compliance and pins are settings. `docs/how-to/extending.md` shows how to add another one. Pure.
Source: docs/spec/declarations.md, Scopes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Generic, Protocol, Self, TypeAlias, TypeVar

from attrs import field, frozen

from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.scopes.merge import (
    PRECEDENCE,
    Declared,
    Layer,
    Merged,
    Scope,
    ScopeKind,
    layers_of,
    merge,
)

V = TypeVar("V")

Scoped: TypeAlias = FrozenMap[Scope, FrozenMap[str, V]]
"""The declarations of one setting: entries by scope, values by entry."""


@frozen
class Explained:
    """One effective value of a host: its key, its text, its scope and what it shadowed."""

    key: str
    scope: Scope
    value: str
    shadowed: tuple[Declared[str], ...] = ()


@frozen
class Clash:
    """Scopes of equal rank that declare the entry `key`."""

    key: str
    scopes: tuple[Scope, ...]


class AnySetting(Protocol):
    """A setting of any value type: what it has to say about one host."""

    def explain(self, hostname: str, host: FleetHost) -> tuple[Explained, ...]: ...

    def clashes(self, hostname: str, host: FleetHost) -> tuple[Clash, ...]: ...


@frozen
class Setting(Generic[V]):
    """One kind of setting.

    name: the prefix of its keys. layers: returns the declarations of the scopes that apply to a host. precedence: the
    kinds of scope that may declare it, least specific first. key_of: returns an entry's key after `name`. show: returns
    an entry's value as text.
    """

    name: str
    layers: Callable[[str, FleetHost], tuple[Layer[V], ...]]
    precedence: tuple[ScopeKind, ...] = field(default=PRECEDENCE, kw_only=True)
    key_of: Callable[[str], str] = field(default=str, kw_only=True)
    show: Callable[[V], str] = field(default=str, kw_only=True)

    @classmethod
    def declared(cls, name: str, scoped: Mapping[Scope, FrozenMap[str, V]]) -> Self:
        """Return a setting whose entries are declared by scope, with the defaults for everything else."""
        return cls(name, partial(layers_of, declared=scoped))

    def of(self, hostname: str, host: FleetHost) -> Merged[V]:
        """Return the effective values of one host."""
        return merge(self.layers(hostname, host), self.precedence)

    def explain(self, hostname: str, host: FleetHost) -> tuple[Explained, ...]:
        """Return the effective values of a host, sorted by name. A name in conflict has none."""
        return tuple(
            Explained(
                self._key(name),
                winner.scope,
                self.show(winner.value),
                tuple(Declared(each.scope, self.show(each.value)) for each in winner.shadowed),
            )
            for name, winner in self.of(hostname, host).winners.items()
        )

    def clashes(self, hostname: str, host: FleetHost) -> tuple[Clash, ...]:
        """Return the entries whose effective value is ambiguous."""
        return tuple(
            Clash(self._key(conflict.name), tuple(rival.scope for rival in conflict.rivals))
            for conflict in self.of(hostname, host).conflicts
        )

    def _key(self, name: str) -> str:
        return ".".join(filter(None, (self.name, self.key_of(name))))


def explain(settings: Iterable[AnySetting], hostname: str, host: FleetHost) -> Iterator[Explained]:
    """Yield the effective values of a host, of all `settings` in turn."""
    for setting in settings:
        yield from setting.explain(hostname, host)
