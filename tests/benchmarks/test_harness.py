"""Measuring: what is kept of each round, and what is made of it."""

from pathlib import Path

import pytest

from benchmarks.harness import QUICK, Figure, Timed, percentile, race, ratio
from benchmarks.report import BEGIN, END, as_markdown, as_text, missed, number, put_into


def figure(*values: float, at_least: float | None = None, at_most: float | None = None) -> Figure:
    return Figure("step", "ours", "events/s", values, at_least=at_least, at_most=at_most)


def test_a_race_lets_every_contender_run_once_a_round() -> None:
    """The order is that of the contenders, round after round; each is prepared anew."""
    ran: list[str] = []

    def contender(name: str) -> Timed:
        ran.append(f"prepare {name}")

        def run() -> int:
            ran.append(name)
            return 10

        return run

    rates = race(QUICK, {"a": lambda: contender("a"), "b": lambda: contender("b")})

    assert ran == ["prepare a", "a", "prepare b", "b"] * QUICK.rounds
    assert [len(rate.values) for rate in rates.values()] == [QUICK.rounds, QUICK.rounds]


def test_a_ratio_is_taken_round_by_round() -> None:
    """A machine that slows down in one round slows both, and the ratio stays."""
    shown = ratio("ours / theirs", figure(100, 50, 100), figure(50, 25, 40))

    assert shown.values == (2, 2, 2.5)
    assert shown.median == 2


def test_a_ratio_of_single_threads_is_one_of_processor_time() -> None:
    """What else runs on the machine is in the time on the wall, not in the processor's."""
    ours = Figure("step", "ours", "events/s", (10,), cpu=(40,))
    theirs = Figure("step", "theirs", "events/s", (10,), cpu=(10,))

    assert ratio("ours / theirs", ours, theirs).values == (4,)


def test_a_target_is_met_by_the_median() -> None:
    """One bad round misses nothing; no target, no verdict."""
    assert figure(90, 110, 120, at_least=100).is_met is True
    assert figure(90, 95, 120, at_least=100).is_met is False
    assert figure(1, 2, 9, at_most=2).is_met is True
    assert figure(1).is_met is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_a_value_that_was_there(share: float, expected: int) -> None:
    """The smallest value that so many of them do not exceed."""
    assert percentile(range(100, 0, -1), share) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(1_234_567, "1,230,000"), (999, "999"), (0.01234, "0.0123"), (4.5, "4.5")]
)
def test_a_number_is_shown_with_three_digits(value: float, text: str) -> None:
    """More would pretend to be exact."""
    assert number(value) == text


def test_a_rate_is_not_judged_and_a_ratio_is() -> None:
    """A busy machine reaches no rate; what it is beside another one says something of the program."""
    slow = figure(90, at_least=100)
    low, high = (ratio("a / b", slow, figure(50), at_least=least) for least in (2, 1))

    assert missed([slow, figure(1), low, high]) == (low,)
    (line,) = as_text({}, [slow]).splitlines()[3:]
    assert line.endswith("≥ 100 not here")


def test_a_table_says_what_was_missed() -> None:
    """Target, verdict, median and spread are on the line of the figure."""
    part = Figure("step", "ours", "×", (90, 95, 120), at_least=100)
    (line,) = as_text({}, [part]).splitlines()[3:]

    assert line.split() == [
        "step",
        "ours",
        "95",
        "×",
        "90",
        "–",
        "120",
        "≥",
        "100",
        "MISSED",
    ]


def test_writing_a_page_replaces_what_is_between_the_markers(tmp_path: Path) -> None:
    """What stands around them stays, however often it is done."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    for _ in range(2):
        put_into(page, as_markdown({"processor": "2"}, [figure(1)]))

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| step | ours | 1 events/s |") == 1
