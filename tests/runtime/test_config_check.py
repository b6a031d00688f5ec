"""What `nixfleet config check` tells: whom a file is for, and what it comes to."""

import tomllib
from pathlib import Path

import pytest

from nixfleet_runtime.config.check import Side, check_config
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import file_to_write


def read_shop(root: Section) -> object:
    shop = root.section("shop")
    return (
        root.text("name", "nobody"),
        shop.count("customers", 10),
        shop.seconds("open_seconds", 3600.0),
        shop.flag("cash"),
        shop.optional_path("book_file", file_to_write),
        root.section("log").text("level", "info"),
    )


def read_mill(root: Section) -> object:
    return (root.section("mill").count("wheels", 1), root.section("log").text("level", "info"))


SHOP = Side("shop", frozenset({"name", "shop", "log"}), read_shop)
MILL = Side("mill", frozenset({"mill", "log"}), read_mill)
SIDES = (SHOP, MILL)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes a configuration."""
    return tmp_path / "side.toml"


def test_a_good_file_is_told_option_by_option(file: Path) -> None:
    """Each has its value as TOML, and the default, the file or the variable that it comes from."""
    file.write_text('name = "Käse"\n[shop]\ncash = true\n', encoding="utf-8")
    lines, problems = check_config(file, {"NIXFLEET_SHOP__CUSTOMERS": "20"}, SIDES)
    assert problems == ()
    assert lines == (
        f"# shop: {file}",
        'name = "Käse"                # file',
        "shop.customers = 20          # NIXFLEET_SHOP__CUSTOMERS",
        "shop.open_seconds = 3600.0   # default",
        "shop.cash = true             # file",
        "# shop.book_file is not set  # default",
        'log.level = "info"           # default',
    )


def test_what_is_told_is_a_configuration_that_comes_to_the_same(file: Path) -> None:
    """The lines are TOML: written to a file, they say everything that the first one left to defaults."""
    file.write_text('name = "a\\u007F\\"b\\nc"\n[shop]\nbook_file = "é b"\n', encoding="utf-8")
    lines, _ = check_config(file, {"NIXFLEET_SHOP__OPEN_SECONDS": "1.5"}, SIDES)
    told = tomllib.loads("\n".join(lines))
    assert told["name"] == 'a\x7f"b\nc'
    assert told["shop"] == {
        "customers": 10,
        "open_seconds": 1.5,
        "cash": False,
        "book_file": str(file.parent / "é b"),
    }


def test_a_file_with_mistakes_is_told_by_its_mistakes_alone(file: Path) -> None:
    """Nothing of a configuration that cannot be used is shown."""
    file.write_text("[mill]\nwheels = 0\nweels = 3\n", encoding="utf-8")
    lines, problems = check_config(file, {}, SIDES)
    assert lines == ()
    assert [problem.path for problem in problems] == ["mill.weels", "mill.wheels"]


def test_a_file_is_for_the_side_that_knows_most_of_its_keys(file: Path) -> None:
    """A section of the other side is a mistake in it, and does not hide whom it is for."""
    file.write_text("name = 'Ada'\n[shop]\n[mill]\n", encoding="utf-8")
    _, problems = check_config(file, {}, SIDES)
    assert [problem.path for problem in problems] == ["mill"]


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("[log]", "log"), ("[mill]\n[shop]", "mill, shop")]
)
def test_a_file_that_could_be_for_either_side_is_refused(file: Path, text: str, found: str) -> None:
    """The problem tells what would make it one side's."""
    file.write_text(text, encoding="utf-8")
    lines, problems = check_config(file, {}, SIDES)
    assert lines == ()
    assert [str(problem) for problem in problems] == [
        f"{file}: cannot determine which side it configures: "
        f"expected the shop's name, shop or the mill's mill, found {found}"
    ]


def test_a_file_for_one_side_alone_needs_no_telling(file: Path) -> None:
    """Who knows whom it is for names that side alone."""
    file.touch()
    lines, _ = check_config(file, {}, [MILL])
    assert lines[0] == f"# mill: {file}"


def test_a_file_that_cannot_be_read_is_one_problem(file: Path) -> None:
    """A missing file is told, not raised."""
    lines, (problem,) = check_config(file, {}, SIDES)
    assert (lines, problem.path) == ((), str(file))
