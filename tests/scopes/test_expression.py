"""What selectors with and, or, not mean, and how they are written on one line."""

import pytest

from nixfleet_proto.fleet import FleetHost, Selector
from nixfleet_state_machine.scopes.expression import (
    EVERYBODY,
    NOBODY,
    AllOf,
    AnyOf,
    Mention,
    Not,
    channels,
    hosts,
    meant,
    mentions,
    of_selector,
    tags,
    tags_any,
)
from nixfleet_state_machine.scopes.normal_form import (
    CLAUSES_MAX,
    TooManyClauses,
    normal_form,
    plain_selector,
)
from nixfleet_state_machine.scopes.one_line import NotASelector, one_line, parse_line

FLEET = {
    "web-01": FleetHost("stable", ("web", "eu")),
    "web-03": FleetHost("stable", ("web", "us")),
    "db-01": FleetHost("edge", ("db", "eu")),
}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("all", "db-01 web-01 web-03"),
        ("nobody", ""),
        ("tags:web & !hosts:web-03", "web-01"),
        ("tags:web,eu | tags:db", "db-01 web-01"),
        ("tags_any:us,db", "db-01 web-03"),
        ("channel:stable,edge & !(tags:web | tags:us)", "db-01"),
        ("channel : stable&!tags:us", "web-01"),
        ("!!tags:db", "db-01"),
        ("tags:db | tags:web & tags:us", "db-01 web-03"),
        ("(tags:db | tags:web) & tags:us", "web-03"),
    ],
)
def test_a_line_means_hosts(line: str, names: str) -> None:
    """`!` binds tighter than `&`, and that tighter than `|`; blanks mean nothing."""
    assert " ".join(meant(parse_line(line), FLEET)) == names


@pytest.mark.parametrize(
    ("line", "at", "found"),
    [
        ("", 0, "the end"),
        ("tags", 4, "the end"),
        ("tags:", 5, "the end"),
        ("tag:web", 0, "'tag'"),
        ("tags:web,", 9, "the end"),
        ("tags:web hosts:a", 9, "'hosts'"),
        ("tags:web & ", 11, "the end"),
        ("(tags:web", 9, "the end"),
        ("tags:web)", 8, "')'"),
        ("tags:web && hosts:a", 10, "'&'"),
        ("tags:käse", 6, "'ä'"),
        ("!" * 40 + "all", 33, "'!'"),
    ],
)
def test_a_line_that_is_no_selector_is_refused_at_its_character(
    line: str, at: int, found: str
) -> None:
    """What was expected is told with the place."""
    with pytest.raises(NotASelector) as caught:
        parse_line(line)

    assert (caught.value.at, caught.value.found) == (at, found)
    assert caught.value.expected in str(caught.value)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("tags:web,eu & channel:stable", "channel:stable & tags:eu,web"),
        ("tags:b & tags:a & tags:a", "tags:a,b"),
        ("tags:a | tags:b", "tags_any:a,b"),
        ("!tags:a & !tags:b", "!tags_any:a,b"),
        ("!(tags:a & tags:b)", "!tags:a,b"),
        ("tags:web & !hosts:web-03", "tags:web & !hosts:web-03"),
        ("!hosts:b & !hosts:a", "!hosts:a,b"),
        ("hosts:a | hosts:b", "hosts:a,b"),
        ("hosts:a & hosts:b", "nobody"),
        ("hosts:a,b & !hosts:b", "hosts:a"),
        ("tags:a & (tags:a | tags:b)", "tags:a"),
        ("tags:a | !tags:a", "all"),
        ("hosts:a | tags:web", "hosts:a | tags:web"),
        ("channel:c & (tags:web | hosts:a)", "channel:c & (hosts:a | tags:web)"),
        ("tags:a & tags:b | tags:a & !tags:b", "tags:a"),
        (
            "tags:a & tags:b | !tags:a & !tags:b",
            "(tags:a | !tags:b) & (tags:b | !tags:a)",
        ),
    ],
)
def test_what_means_the_same_is_written_the_same(written: str, line: str) -> None:
    """The line is the shortest thing that can be said in clauses, its names in order."""
    assert one_line(parse_line(written)) == line


def test_operators_and_lines_say_the_same() -> None:
    """In Python, a selector is made with `&`, `|` and `~`."""
    made = (tags("web") | channels("edge")) & ~hosts("web-03")

    assert made == AllOf((AnyOf((tags("web"), channels("edge"))), Not(hosts("web-03"))))
    assert normal_form(made) == normal_form(parse_line("(tags:web | channel:edge) & !hosts:web-03"))


def test_names_that_are_mentioned_are_known_with_what_they_name() -> None:
    """Whoever checks a selector against a fleet is told every name in it."""
    expression = ~(tags_any("a", "b") & hosts("h")) | channels("c")

    assert mentions(expression) == (
        Mention("channel", "c"),
        Mention("host", "h"),
        Mention("tag", "a"),
        Mention("tag", "b"),
    )


@pytest.mark.parametrize(
    "selector",
    [
        Selector(all=True),
        Selector(hosts=("a", "b"), channel="c", tags=("x", "y"), tags_any=("p", "q")),
        Selector(tags=("x",)),
    ],
)
def test_a_plain_selector_comes_back_from_its_normal_form(selector: Selector) -> None:
    """Nothing is lost on the way to an expression and back."""
    assert plain_selector(normal_form(of_selector(selector))) == selector


@pytest.mark.parametrize(
    "line",
    [
        "nobody",
        "!tags:a",
        "!hosts:a",
        "channel:a,b",
        "tags:a | hosts:b",
        "tags_any:a,b & tags_any:c,d",
    ],
)
def test_what_no_plain_selector_means_has_none(line: str) -> None:
    """A resolved fleet has no word for it."""
    assert plain_selector(normal_form(parse_line(line))) is None


def test_a_selector_without_parts_means_nobody() -> None:
    """An empty plain selector is nobody; an empty conjunction is everybody."""
    assert of_selector(Selector()) == NOBODY
    assert meant(EVERYBODY, FLEET) == tuple(sorted(FLEET))


@pytest.mark.parametrize("pairs", [7, 20])
def test_a_selector_beyond_all_use_is_refused(pairs: int) -> None:
    """What would take forever to bring into its normal form is refused instead."""
    either = AnyOf(tuple(tags(f"a{at}", f"b{at}") for at in range(pairs)))

    with pytest.raises(TooManyClauses) as caught:
        normal_form(either)

    assert caught.value.limit == CLAUSES_MAX
    assert str(CLAUSES_MAX) in str(caught.value)
