"""Expressions over hosts, and scopes with declared entries. Few names, so that they often select the same hosts."""

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_state_machine.scopes.expression import (
    AllOf,
    AnyOf,
    ChannelIs,
    Expression,
    HasTag,
    HostIs,
    Mention,
    Not,
)
from nixfleet_state_machine.scopes.merge import FLEET, Scope, ScopeKind
from nixfleet_testing.strategies.names import channels, hostnames

_TAGS = st.sampled_from(("db", "eu", "us"))


@cache
def expressions() -> SearchStrategy[Expression]:
    """Expressions of every form, a few levels deep; some select every host, and some none."""
    return st.recursive(
        st.one_of(has_tags(), hosts_are(), channels_are()),
        lambda parts: st.one_of(_all_of(parts), _any_of(parts), st.builds(Not, parts)),
        max_leaves=6,
    )


@cache
def has_tags() -> SearchStrategy[HasTag]:
    return st.builds(HasTag, _TAGS)


@cache
def hosts_are() -> SearchStrategy[HostIs]:
    return st.builds(HostIs, st.frozensets(hostnames(), max_size=2))


@cache
def channels_are() -> SearchStrategy[ChannelIs]:
    return st.builds(ChannelIs, st.frozensets(channels(), max_size=2))


@cache
def all_of() -> SearchStrategy[AllOf]:
    return _all_of(expressions())


@cache
def any_of() -> SearchStrategy[AnyOf]:
    return _any_of(expressions())


@cache
def negations() -> SearchStrategy[Not]:
    return st.builds(Not, expressions())


@cache
def mentions() -> SearchStrategy[Mention]:
    return st.one_of(
        st.builds(Mention, st.just("host"), hostnames()),
        st.builds(Mention, st.just("channel"), channels()),
        st.builds(Mention, st.just("tag"), _TAGS),
    )


@cache
def scopes() -> SearchStrategy[Scope]:
    return st.one_of(
        st.just(FLEET),
        st.builds(Scope, st.just(ScopeKind.TAG), _TAGS),
        st.builds(Scope, st.just(ScopeKind.CHANNEL), channels()),
        st.builds(Scope, st.just(ScopeKind.HOST), hostnames()),
    )


def _all_of(parts: SearchStrategy[Expression]) -> SearchStrategy[AllOf]:
    return st.builds(AllOf, st.lists(parts, max_size=3).map(tuple))


def _any_of(parts: SearchStrategy[Expression]) -> SearchStrategy[AnyOf]:
    return st.builds(AnyOf, st.lists(parts, max_size=3).map(tuple))
