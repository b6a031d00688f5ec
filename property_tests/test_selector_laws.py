"""What holds for every selector with and, or, not: it is an algebra, and its normal form is complete."""

from itertools import chain, combinations, product

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.fleet import FleetHost, Selector
from nixfleet_state_machine.scopes.expression import (
    EVERYBODY,
    NOBODY,
    AllOf,
    AnyOf,
    Expression,
    Not,
    channels,
    hosts,
    means,
    meant,
    of_selector,
    tags,
    tags_any,
)
from nixfleet_state_machine.scopes.normal_form import is_same, normal_form, plain_selector
from nixfleet_state_machine.scopes.one_line import one_line, parse_line
from nixfleet_state_machine.scopes.selector import matches, summary

HOSTS, CHANNELS, TAGS = ("a", "b"), ("c", "d"), ("x", "y", "z")

# Every host that a selector over these names can tell from another: one more name of each, for all others.
UNIVERSE = {
    (name, FleetHost(channel, tuple(chosen)))
    for name, channel in product((*HOSTS, "other"), (*CHANNELS, "other"))
    for chosen in chain.from_iterable(combinations(TAGS, n) for n in range(len(TAGS) + 1))
}


def some(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=1, max_size=2)


leaves: st.SearchStrategy[Expression] = st.one_of(
    st.sampled_from((EVERYBODY, NOBODY)),
    some(HOSTS).map(lambda names: hosts(*names)),
    some(CHANNELS).map(lambda names: channels(*names)),
    some(TAGS).map(lambda names: tags(*names)),
    some(TAGS).map(lambda names: tags_any(*names)),
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    leaves,
    lambda inner: (
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=8,
)
selectors = st.builds(
    Selector,
    all=st.booleans(),
    hosts=st.lists(st.sampled_from(HOSTS), max_size=2).map(tuple),
    channel=st.none() | st.sampled_from(CHANNELS),
    tags=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
    tags_any=st.lists(st.sampled_from(TAGS), max_size=2).map(tuple),
)


def extent(expression: Expression) -> set[tuple[str, FleetHost]]:
    """Which of all hosts there can be are meant."""
    return {(name, host) for name, host in UNIVERSE if means(expression, name, host)}


@given(expressions, expressions)
def test_equal_meaning_is_equal_form_is_equal_line(one: Expression, other: Expression) -> None:
    """Two selectors mean the same hosts in every fleet exactly if form and line are equal."""
    means_same = extent(one) == extent(other)

    assert (normal_form(one) == normal_form(other)) == means_same
    assert (one_line(one) == one_line(other)) == means_same


@given(expressions)
def test_a_line_is_read_back_as_what_it_was_written_for(expression: Expression) -> None:
    """The line means what the selector does, and is its own line."""
    line = one_line(expression)

    assert extent(parse_line(line)) == extent(expression)
    assert one_line(parse_line(line)) == line


@given(expressions, expressions, expressions)
def test_and_or_not_are_a_boolean_algebra(a: Expression, b: Expression, c: Expression) -> None:
    """De Morgan, double negation, idempotence, commutativity, associativity, distribution, absorption."""
    assert is_same(~(a & b), ~a | ~b)
    assert is_same(~(a | b), ~a & ~b)
    assert is_same(~~a, a)
    assert is_same(a & a, a)
    assert is_same(a | a, a)
    assert is_same(a & b, b & a)
    assert is_same(a | b, b | a)
    assert is_same((a & b) & c, a & (b & c))
    assert is_same(a & (b | c), (a & b) | (a & c))
    assert is_same(a & (a | b), a)
    assert is_same(a & ~a, NOBODY)
    assert is_same(a | ~a, EVERYBODY)
    assert is_same(a & EVERYBODY, a)
    assert is_same(a | NOBODY, a)


@given(selectors)
def test_a_plain_selector_means_the_same_as_an_expression(selector: Selector) -> None:
    """Both readings of one selector agree about every host there can be."""
    expression = of_selector(selector)

    assert all(
        means(expression, name, host) == matches(selector, name, host) for name, host in UNIVERSE
    )


@given(expressions)
def test_the_plain_selector_of_an_expression_means_the_same(expression: Expression) -> None:
    """Where there is one, it means the same hosts, and says so on the same line."""
    plain = plain_selector(normal_form(expression))

    if plain is not None:
        assert is_same(of_selector(plain), expression)
        assert summary(plain) == one_line(expression)


@given(selectors)
def test_every_plain_selector_that_means_somebody_has_a_plain_form(selector: Selector) -> None:
    """No plain selector becomes a list of names on its way through an expression."""
    form = normal_form(of_selector(selector))

    assert form.is_nobody == (not extent(of_selector(selector)))
    assert (plain_selector(form) is None) == form.is_nobody


@given(expressions, st.dictionaries(st.sampled_from(HOSTS), st.builds(FleetHost, st.just("c"))))
def test_meaning_hosts_of_a_fleet_is_asking_each(
    expression: Expression, fleet: dict[str, FleetHost]
) -> None:
    """`meant` names those hosts of a fleet that are meant, sorted."""
    assert meant(expression, fleet) == tuple(
        sorted(name for name, host in fleet.items() if means(expression, name, host))
    )
