"""Every mistake that we could think of: one message each, at its line, with what was probably meant."""

from collections.abc import Callable

import pytest

from nixfleet_release import Problem
from tests.release.planted import CONSEQUENCES, GOOD, MISTAKES, Planted, line_of, planted

Problems = Callable[[str], tuple[Problem, ...]]


def test_the_fleet_that_mistakes_are_planted_in_is_good(problems: Problems) -> None:
    """Whatever is told of it with a mistake is told of the mistake."""
    assert problems(GOOD) == ()


@pytest.mark.parametrize(
    "mistake", [*MISTAKES, *CONSEQUENCES], ids=lambda it: f"{it.path}={it.new}"
)
def test_a_mistake_is_one_message(problems: Problems, mistake: Planted) -> None:
    """Neither is it passed over, nor is what follows from it told as well."""
    found = problems(planted(mistake))

    assert [(it.path, it.suggestion, it.place and it.place.line) for it in found] == [
        (mistake.path, mistake.suggestion, line_of(mistake))
    ]
