"""Selector expressions with and, or, not: which hosts a declaration selects. Meaning only, no syntax.

An expression is evaluated for one host at a time: its name, channel and tags. A resolved fleet has plain selectors
only (`selector.py`). `normal_form.py` decides whether two expressions are equivalent, `one_line.py` writes them.
Source: docs/spec/declarations.md, Selectors.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias, assert_never, cast

from attrs import frozen

from nixfleet_proto.fleet import FleetHost, Selector


class _Composable:
    """The operators of expressions: `tags("web") & ~hosts("web-03")`."""

    __slots__ = ()

    def __and__(self, other: "Expression") -> "AllOf":
        return AllOf((cast("Expression", self), other))

    def __or__(self, other: "Expression") -> "AnyOf":
        return AnyOf((cast("Expression", self), other))

    def __invert__(self) -> "Not":
        return Not(cast("Expression", self))


@frozen
class HostIs(_Composable):
    """The hosts with one of these names."""

    names: frozenset[str]


@frozen
class ChannelIs(_Composable):
    """The hosts that follow one of these channels."""

    names: frozenset[str]


@frozen
class HasTag(_Composable):
    """The hosts with this tag."""

    name: str


@frozen
class AllOf(_Composable):
    """The hosts that all parts select; without parts, every host."""

    parts: tuple["Expression", ...] = ()


@frozen
class AnyOf(_Composable):
    """The hosts that at least one part selects; without parts, no host."""

    parts: tuple["Expression", ...] = ()


@frozen
class Not(_Composable):
    """The hosts that `part` does not select."""

    part: "Expression"


Expression: TypeAlias = HostIs | ChannelIs | HasTag | AllOf | AnyOf | Not

EVERYBODY = AllOf()
NOBODY = AnyOf()


@frozen(order=True)
class Mention:
    """A name that an expression refers to: of a `host`, a `channel` or a `tag`."""

    what: str
    name: str


def hosts(*names: str) -> HostIs:
    """Return the expression for the hosts with these names."""
    return HostIs(frozenset(names))


def channels(*names: str) -> ChannelIs:
    """Return the expression for the hosts that follow one of these channels."""
    return ChannelIs(frozenset(names))


def tags(*names: str) -> Expression:
    """Return the expression for the hosts that have all of these tags."""
    return HasTag(names[0]) if len(names) == 1 else AllOf(tuple(map(HasTag, names)))


def tags_any(*names: str) -> Expression:
    """Return the expression for the hosts that have at least one of these tags."""
    return HasTag(names[0]) if len(names) == 1 else AnyOf(tuple(map(HasTag, names)))


def of_selector(selector: Selector) -> Expression:
    """Return the expression that is equivalent to a plain selector."""
    parts: list[Expression] = [EVERYBODY] if selector.all else []
    if selector.hosts:
        parts.append(hosts(*selector.hosts))
    if selector.channel is not None:
        parts.append(channels(selector.channel))
    if selector.tags:
        parts.append(tags(*selector.tags))
    if selector.tags_any:
        parts.append(tags_any(*selector.tags_any))
    return AllOf(tuple(parts)) if parts else NOBODY


def means(expression: Expression, hostname: str, host: FleetHost) -> bool:
    """Return whether `expression` selects this host."""
    match expression:
        case HasTag():
            return expression.name in host.tags
        case HostIs():
            return hostname in expression.names
        case ChannelIs():
            return host.channel in expression.names
        case AllOf():
            return all(means(part, hostname, host) for part in expression.parts)
        case AnyOf():
            return any(means(part, hostname, host) for part in expression.parts)
        case Not():
            return not means(expression.part, hostname, host)
        case _:
            assert_never(expression)


def meant(expression: Expression, fleet: Mapping[str, FleetHost]) -> tuple[str, ...]:
    """Return the names of the hosts that `expression` selects, sorted."""
    return tuple(sorted(name for name, host in fleet.items() if means(expression, name, host)))


def mentions(expression: Expression) -> tuple[Mention, ...]:
    """Return the names that `expression` refers to, each once, sorted."""
    return tuple(sorted(set(_mentions(expression))))


def _mentions(expression: Expression) -> Iterator[Mention]:
    match expression:
        case HasTag():
            yield Mention("tag", expression.name)
        case HostIs():
            yield from (Mention("host", name) for name in expression.names)
        case ChannelIs():
            yield from (Mention("channel", name) for name in expression.names)
        case AllOf() | AnyOf():
            for part in expression.parts:
                yield from _mentions(part)
        case Not():
            yield from _mentions(expression.part)
        case _:
            assert_never(expression)
