"""What holds for every merge of scopes and every selector."""

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.fleet import FleetHost, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.scopes.merge import (
    FLEET,
    PRECEDENCE,
    Layer,
    Merged,
    Scope,
    ScopeKind,
    layers_of,
    merge,
    scopes_of,
)
from nixfleet_state_machine.scopes.selector import canonical, matches, select, summary

# Few names, so that scopes declare the same ones and selectors meet hosts.
tags = st.sampled_from(["eu", "us", "web"])
hostnames = st.sampled_from(["web-01", "web-02"])
channels = st.sampled_from(["edge", "stable"])
entries = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)).map(FrozenMap[str, int])

scopes = st.one_of(
    st.just(FLEET),
    st.builds(Scope, st.just(ScopeKind.TAG), tags),
    st.builds(Scope, st.just(ScopeKind.CHANNEL), channels),
    st.builds(Scope, st.just(ScopeKind.HOST), hostnames),
)
declarations = st.dictionaries(scopes, entries).map(FrozenMap[Scope, FrozenMap[str, int]])
hosts = st.builds(FleetHost, channel=channels, tags=st.lists(tags, max_size=2).map(tuple))
one_of_each = st.tuples(entries, entries, entries, entries)

selectors = st.builds(
    Selector,
    all=st.booleans(),
    hosts=st.lists(hostnames, max_size=2).map(tuple),
    channel=st.none() | channels,
    tags=st.lists(tags, max_size=2).map(tuple),
    tags_any=st.lists(tags, max_size=2).map(tuple),
)


def rank(scope: Scope) -> int:
    return PRECEDENCE.index(scope.kind)


def stack(values: tuple[FrozenMap[str, int], ...]) -> list[Layer[int]]:
    """One layer for each kind of scope: where there are no equals, nothing conflicts."""
    return [Layer(Scope(kind), own) for kind, own in zip(PRECEDENCE, values, strict=False)]


def relayered(merged: Merged[int]) -> list[Layer[int]]:
    """What a merge came to, as layers that can be merged again."""
    return [
        Layer(winner.scope, FrozenMap({name: winner.value}))
        for name, winner in merged.winners.items()
    ]


@given(hostnames, hosts, declarations)
def test_every_declared_name_has_a_winner_or_a_conflict(
    hostname: str, host: FleetHost, declared: FrozenMap[Scope, FrozenMap[str, int]]
) -> None:
    """No name that a scope of the host declares gets lost, and none is in both."""
    layers = layers_of(hostname, host, declared)
    merged = merge(layers)

    conflicts = [conflict.name for conflict in merged.conflicts]
    names = sorted({name for layer in layers for name in layer.entries})
    assert sorted([*merged.winners, *conflicts]) == names


@given(hostnames, hosts, declarations)
def test_provenance_tells_the_truth(
    hostname: str, host: FleetHost, declared: FrozenMap[Scope, FrozenMap[str, int]]
) -> None:
    """A winner and all it shadowed are exactly what the scopes of the host declare, in order."""
    merged = merge(layers_of(hostname, host, declared))

    for name, winner in merged.winners.items():
        told = [*((it.scope, it.value) for it in winner.shadowed), (winner.scope, winner.value)]
        assert told == [
            (scope, declared[scope][name])
            for scope in scopes_of(hostname, host)
            if name in declared.get(scope, FrozenMap[str, int]())
        ]


@given(hostnames, hosts, declarations)
def test_the_most_specific_scope_wins(
    hostname: str, host: FleetHost, declared: FrozenMap[Scope, FrozenMap[str, int]]
) -> None:
    """Whatever a winner shadowed was declared in a scope of a lower rank."""
    merged = merge(layers_of(hostname, host, declared))

    for winner in merged.winners.values():
        assert all(rank(it.scope) < rank(winner.scope) for it in winner.shadowed)


@given(hostnames, hosts, declarations)
def test_a_conflict_is_between_scopes_of_one_rank(
    hostname: str, host: FleetHost, declared: FrozenMap[Scope, FrozenMap[str, int]]
) -> None:
    """A conflict names at least two scopes, all of one rank, with what each of them says."""
    merged = merge(layers_of(hostname, host, declared))

    for conflict in merged.conflicts:
        rivals = [rival.scope for rival in conflict.rivals]
        assert len(set(rivals)) == len(rivals) >= 2
        assert len({rank(scope) for scope in rivals}) == 1
        assert all(declared[it.scope][conflict.name] == it.value for it in conflict.rivals)


@given(hostnames, hosts, declarations, st.data())
def test_the_order_of_layers_does_not_matter(
    hostname: str,
    host: FleetHost,
    declared: FrozenMap[Scope, FrozenMap[str, int]],
    data: st.DataObject,
) -> None:
    """Layers come to the same in every order."""
    layers = layers_of(hostname, host, declared)
    shuffled = data.draw(st.permutations(layers))

    assert merge(shuffled) == merge(layers)


@given(one_of_each, st.integers(0, 4))
def test_merging_in_two_steps_comes_to_the_same_without_rivals(
    values: tuple[FrozenMap[str, int], ...], cut: int
) -> None:
    """Where no two scopes are of one rank, neighbouring layers may be merged first."""
    layers = stack(values)
    below = relayered(merge(layers[:cut]))
    above = relayered(merge(layers[cut:]))

    assert merge([*below, *above]).values == merge(layers).values


@given(one_of_each)
def test_merging_what_a_merge_came_to_changes_nothing(
    values: tuple[FrozenMap[str, int], ...],
) -> None:
    """The winners, as layers of their own, win again with nothing left to shadow."""
    merged = merge(stack(values))
    again = merge(relayered(merged))

    assert again.values == merged.values
    assert not any(winner.shadowed for winner in again.winners.values())


@given(selectors, hostnames, hosts)
def test_a_selector_means_the_same_in_canonical_form(
    selector: Selector, hostname: str, host: FleetHost
) -> None:
    """Sorting and deduplicating a selector moves no host in or out, and happens once."""
    assert matches(selector, hostname, host) == matches(canonical(selector), hostname, host)
    assert canonical(canonical(selector)) == canonical(selector)


@given(selectors, selectors)
def test_selectors_have_one_summary_exactly_when_they_are_equal(
    one: Selector, other: Selector
) -> None:
    """The one line tells two selectors apart if and only if their canonical forms differ."""
    assert (summary(one) == summary(other)) == (canonical(one) == canonical(other))


@given(selectors, st.dictionaries(hostnames, hosts))
def test_selecting_is_matching_every_host(selector: Selector, fleet: dict[str, FleetHost]) -> None:
    """`select` finds those hosts that match, sorted, whichever way it looks for them."""
    matching = [name for name, host in fleet.items() if matches(selector, name, host)]

    assert select(selector, fleet) == tuple(sorted(matching))
