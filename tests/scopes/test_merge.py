"""What several scopes come to together: who wins, what was shadowed, where nobody can."""

from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.scopes.merge import (
    FLEET,
    Conflict,
    Declared,
    Layer,
    Scope,
    ScopeKind,
    Winner,
    layers_of,
    merge,
    scopes_of,
)

WEB = Scope(ScopeKind.TAG, "web")
EU = Scope(ScopeKind.TAG, "eu")
STABLE = Scope(ScopeKind.CHANNEL, "stable")
WEB_01 = Scope(ScopeKind.HOST, "web-01")


def layer(scope: Scope, **entries: int) -> Layer[int]:
    return Layer(scope, FrozenMap(entries))


def test_the_most_specific_scope_wins_and_says_what_it_shadowed() -> None:
    """A value comes from the most specific scope, with the shadowed ones least specific first."""
    merged = merge([layer(WEB_01, a=4), layer(FLEET, a=1), layer(STABLE, a=3), layer(WEB, a=2)])

    shadowed = (Declared(FLEET, 1), Declared(WEB, 2), Declared(STABLE, 3))
    assert merged.winners == {"a": Winner(WEB_01, 4, shadowed)}


def test_names_that_one_scope_declares_alone_are_all_kept() -> None:
    """Entries with different names live side by side, sorted by name."""
    merged = merge([layer(STABLE, b=2), layer(FLEET, a=1)])

    assert list(merged.values.items()) == [("a", 1), ("b", 2)]


def test_two_tags_with_one_name_are_a_conflict() -> None:
    """No tag ranks before another, so the name has no winner and both declarations are told."""
    merged = merge([layer(WEB, a=1, b=2), layer(EU, a=1)])

    assert merged.conflicts == (Conflict("a", (Declared(EU, 1), Declared(WEB, 1))),)
    assert merged.values == {"b": 2}


def test_two_tags_in_conflict_are_one_below_a_more_specific_scope_too() -> None:
    """A host that overrules two rival tags does not make their conflict go away."""
    merged = merge([layer(WEB, a=1), layer(EU, a=2), layer(WEB_01, a=3)])

    assert [conflict.name for conflict in merged.conflicts] == ["a"]
    assert "a" not in merged.winners


def test_another_precedence_makes_another_scope_win() -> None:
    """Whoever ranks scopes differently passes the order."""
    order = (ScopeKind.CHANNEL, ScopeKind.TAG, ScopeKind.HOST)

    merged = merge([layer(WEB, pin=1), layer(STABLE, pin=2)], order)

    assert merged.values == {"pin": 1}


def test_a_host_lives_in_the_fleet_its_tags_its_channel_and_its_own_scope() -> None:
    """The scopes of a host come least specific first, its tags sorted and each once."""
    host = FleetHost(channel="stable", tags=("web", "eu", "web"))

    assert scopes_of("web-01", host) == (FLEET, EU, WEB, STABLE, WEB_01)


def test_only_the_scopes_of_a_host_reach_it() -> None:
    """What other tags, channels and hosts declare is not in a host's layers."""
    host = FleetHost(channel="stable", tags=("web",))
    declared = {
        FLEET: FrozenMap({"a": 1}),
        WEB: FrozenMap({"a": 2}),
        EU: FrozenMap({"a": 3}),
        Scope(ScopeKind.CHANNEL, "edge"): FrozenMap({"a": 4}),
        Scope(ScopeKind.HOST, "web-02"): FrozenMap({"a": 5}),
    }

    assert layers_of("web-01", host, declared) == (layer(FLEET, a=1), layer(WEB, a=2))


def test_a_tag_and_a_channel_of_one_name_are_two_scopes() -> None:
    """Scopes are told apart by kind as well as by name, and say so."""
    tag, channel = Scope(ScopeKind.TAG, "stable"), Scope(ScopeKind.CHANNEL, "stable")

    assert tag != channel
    assert [str(scope) for scope in (FLEET, tag, channel)] == [
        "fleet",
        "tag stable",
        "channel stable",
    ]
