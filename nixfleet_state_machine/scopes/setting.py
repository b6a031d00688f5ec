"""What may be declared in scopes: each kind of setting says how it comes apart into entries; the rest is here.

Health checks, compliance and pins are settings. Another one is a `Setting` more: `docs/how-to/extending.md` adds it.
Pure, as the merge is.
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
"""What each scope declares of one setting, by entry."""


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
    """A setting whose values are nobody's business: what can be said of it host by host."""

    def explain(self, hostname: str, host: FleetHost) -> tuple[Explained, ...]: ...

    def clashes(self, hostname: str, host: FleetHost) -> tuple[Clash, ...]: ...


@frozen
class Setting(Generic[V]):
    """One kind of thing that scopes declare.

    name: what keys begin with. layers: what the scopes of a host declare. precedence: the kinds of
    scopes that may, least specific first. key_of: how an entry's name is spelt behind `name`. show: an
    entry's value in words.
    """

    name: str
    layers: Callable[[str, FleetHost], tuple[Layer[V], ...]]
    precedence: tuple[ScopeKind, ...] = field(default=PRECEDENCE, kw_only=True)
    key_of: Callable[[str], str] = field(default=str, kw_only=True)
    show: Callable[[V], str] = field(default=str, kw_only=True)

    @classmethod
    def declared(cls, name: str, scoped: Mapping[Scope, FrozenMap[str, V]]) -> Self:
        """Return the setting whose entries are simply declared, with the defaults for all else."""
        return cls(name, partial(layers_of, declared=scoped))

    def of(self, hostname: str, host: FleetHost) -> Merged[V]:
        """Return the effective values of one host."""
        return merge(self.layers(hostname, host), self.precedence)

    def explain(self, hostname: str, host: FleetHost) -> tuple[Explained, ...]:
        """Return the host's effective values, sorted by name. Names whose values clash have none."""
        return tuple(
            Explained(
                self._key(name),
                winner.scope,
                self.show(winner.value),
                tuple(Declared(it.scope, self.show(it.value)) for it in winner.shadowed),
            )
            for name, winner in self.of(hostname, host).winners.items()
        )

    def clashes(self, hostname: str, host: FleetHost) -> tuple[Clash, ...]:
        """Return the entries whose effective value is ambiguous."""
        return tuple(
            Clash(self._key(it.name), tuple(rival.scope for rival in it.rivals))
            for it in self.of(hostname, host).conflicts
        )

    def _key(self, name: str) -> str:
        return ".".join(filter(None, (self.name, self.key_of(name))))


def explain(settings: Iterable[AnySetting], hostname: str, host: FleetHost) -> Iterator[Explained]:
    """Yield the effective values of a host, of all `settings` in turn."""
    for setting in settings:
        yield from setting.explain(hostname, host)
