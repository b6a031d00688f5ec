"""Reading options out of a file: each with its type and limits, or with every problem at once."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import pytest

from nixfleet_runtime.config.options import ConfigError, Loaded, Option, Section, ValueSource, load
from nixfleet_runtime.documents.problems import Problem


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def read(root: Section) -> tuple[object, ...]:
    """A configuration with an option of each type."""
    paint = root.section("paint")
    return (
        root.text("name", "nobody"),
        paint.choice("colour", Colour.RED),
        paint.flag("shiny"),
        paint.count("coats", 2, at_most=9),
        paint.seconds("dry_seconds", 1.5, at_most=60),
    )


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Loaded[tuple[object, ...]]]:
    """Loads a configuration that is given as text."""

    def load_text(text: str) -> Loaded[tuple[object, ...]]:
        file = tmp_path / "paint.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, {}, read)

    return load_text


@pytest.fixture
def problems(
    loaded: Callable[[str], Loaded[tuple[object, ...]]],
) -> Callable[[str], tuple[Problem, ...]]:
    """Finds the problems of a configuration that is given as text."""

    def problems_of(text: str) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            loaded(text)
        return caught.value.problems

    return problems_of


LoadText = Callable[[str], Loaded[tuple[object, ...]]]
ProblemsOf = Callable[[str], tuple[Problem, ...]]


def test_an_empty_file_gives_the_defaults(loaded: LoadText) -> None:
    """What a file does not say has its default, and says so."""
    found = loaded("")
    assert found.config == ("nobody", Colour.RED, False, 2, 1.5)
    assert {option.source for option in found.options} == {ValueSource.DEFAULT}


def test_what_the_file_says_goes_before_the_default(loaded: LoadText) -> None:
    """Values come out with their types, and options in the order of reading."""
    found = loaded(
        "name = 'Ada'\n[paint]\ncolour = 'blue'\nshiny = true\ncoats = 3\ndry_seconds = 60\n"
    )
    assert found.config == ("Ada", Colour.BLUE, True, 3, 60.0)
    assert found.options[0] == Option("name", "Ada", ValueSource.FILE)
    assert [option.path for option in found.options] == [
        "name",
        "paint.colour",
        "paint.shiny",
        "paint.coats",
        "paint.dry_seconds",
    ]


def test_every_problem_is_told_at_once(problems: ProblemsOf) -> None:
    """Each has its place, what was expected and what was found; they are sorted by place."""
    found = problems(
        "nmae = 'Ada'\n[paint]\ncolour = 'green'\nshiny = 1\ncoats = '3'\ndry_seconds = 0\n"
    )
    assert [str(problem) for problem in found] == [
        'nmae: unknown key: expected one of name, paint, found "nmae"; did you mean name?',
        'paint.coats: cannot be used: expected an integer up to 2147483647, found "3"',
        'paint.colour: unknown value: expected one of blue, red, found "green"',
        "paint.dry_seconds: out of range: expected more than 0, at most 60, found 0",
        "paint.shiny: cannot be used: expected true or false, found 1",
    ]


@pytest.mark.parametrize("text", ["0", "10", "-1", "true", "2.0"])
def test_a_count_that_is_not_one_within_limits_is_refused(problems: ProblemsOf, text: str) -> None:
    """Counts are integers from 1 to their limit; true is none, and neither is 2.0."""
    assert [it.path for it in problems(f"[paint]\ncoats = {text}")] == ["paint.coats"]


@pytest.mark.parametrize(
    "text", ["0", "-0.5", "60.5", "99999999999", "nan", "inf", "-inf", "false", "'5'"]
)
def test_a_duration_that_is_not_one_within_limits_is_refused(
    problems: ProblemsOf, text: str
) -> None:
    """Durations are more than nothing and end."""
    assert [it.path for it in problems(f"[paint]\ndry_seconds = {text}")] == ["paint.dry_seconds"]


@pytest.mark.parametrize("text", ["name = ''", "name = 3", "name = ['Ada']", "[name]"])
def test_a_text_that_is_empty_or_none_is_refused(problems: ProblemsOf, text: str) -> None:
    """An empty string is not taken for an absent one."""
    assert [it.path for it in problems(text)] == ["name"]


def test_a_section_that_is_no_table_is_one_problem(problems: ProblemsOf) -> None:
    """What cannot be read because of it is not told as well."""
    (problem,) = problems("paint = 'red'")
    assert (problem.path, problem.found) == ("paint", '"red"')


def test_a_file_that_is_not_toml_is_refused_with_the_line(problems: ProblemsOf) -> None:
    """The reader's own words tell where."""
    (problem,) = problems("name = 'Ada'\nname = ?\n")
    assert problem.message == "not TOML"
    assert "line 2" in problem.found


def test_a_file_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    """A missing file is told like everything else."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml", {}, read)
    assert str(caught.value) == (
        f"{tmp_path}/none.toml has 1 problem:\n"
        f"  {tmp_path}/none.toml: cannot be read: expected a readable file, found No such file or directory"
    )


def test_an_option_without_a_default_must_be_there(tmp_path: Path) -> None:
    """What is missing is told with what would do."""
    file = tmp_path / "paint.toml"
    file.touch()
    with pytest.raises(ConfigError) as caught:
        load(file, {}, lambda root: (root.text("name"), root.required_choice("colour", Colour)))
    assert [str(problem) for problem in caught.value.problems] == [
        "colour: missing: expected one of blue, red, found nothing",
        "name: missing: expected a string, found nothing",
    ]
