"""The one printer: tables in a terminal and in a pipe, times, and JSON."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_cli.main import main
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import (
    Output,
    json_text,
    note,
    section,
    show_lines,
    shown_time,
    table,
)
from nixfleet_cli.shared.terminal import fitted
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.frozen_map import FrozenMap

AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
TEXT = st.text(st.characters())
HEADER, ROWS = ("host", "state"), [("web-01", "Failed"), ("\x1b[/bold]x\n", "ok")]


def test_columns_stand_below_each_other_below_their_header() -> None:
    """Widths are those of the escaped cells, and lines end with their text."""
    assert list(table(ROWS, HEADER)) == [
        "host              state",
        "web-01            Failed",
        r"\x1b[/bold]x\x0a  ok",
    ]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=5))
def test_a_table_has_one_printable_line_for_each_row(rows: list[tuple[str, str, str]]) -> None:
    """No cell adds a row or a column."""
    lines = list(table(rows))
    assert len(lines) == len(rows)
    assert all(line.isprintable() for line in lines)


def test_a_section_without_rows_says_so() -> None:
    """An empty list is not mistaken for a missing one."""
    assert list(section("waiting", [])) == ["waiting", "  none"]


class Terminal:
    """A standard output that is a terminal, or is not."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "first"), [(True, "host              state"), (False, "web-01\tFailed")]
)
def test_a_terminal_gets_columns_and_a_pipe_gets_tabs(
    is_terminal: bool, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People read below a header; programs cut at tabs."""
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    Output(as_json=False).rows([], ROWS, HEADER)
    assert terminal.written.splitlines()[0] == first


def test_times_have_one_form() -> None:
    """UTC, to the second."""
    assert shown_time(AT) == "2026-05-16 01:00:00Z"


def test_every_kind_of_our_data_is_json() -> None:
    """Frozen maps, times, enums, paths, bytes, sets and tuples, in one another."""
    value = FrozenMap({"a": (FrozenMap({"b": AT}),), "c": ProbeStatus.FAIL, "d": b"\x01\xff"})
    assert json_text({"value": value, "file": Path("x"), "set": frozenset({"b", "a"})}) == (
        '{"value":{"a":[{"b":"2026-05-16T01:00:00Z"}],"c":"fail","d":"01ff"},'
        '"file":"x","set":["a","b"]}'
    )


def test_what_is_no_data_is_refused_by_its_type() -> None:
    """Nothing is printed as its repr by accident."""
    with pytest.raises(TypeError, match="expected data that JSON has, found object"):
        json_text({"x": object()})


@given(st.dictionaries(TEXT, TEXT, max_size=3))
def test_json_is_printable_ascii_and_says_the_same(value: dict[str, str]) -> None:
    """Whatever the text, a program reads what was said and a terminal is left alone."""
    text = json_text(value)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == value


LONG = "  releases.directory: does not exist: expected a readable directory at /srv/releases, found nothing"


def test_a_terminal_gets_lines_that_it_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken at spaces, the rest indented; a word is never cut, and a pipe gets whole lines."""
    monkeypatch.setenv("COLUMNS", "40")
    terminal, pipe = Terminal(is_terminal=True), Terminal(is_terminal=False)
    lines = list(fitted(LONG, terminal))
    assert max(map(len, lines)) <= 40
    assert [line[:6].isspace() for line in lines] == [False, *[True] * (len(lines) - 1)]
    assert " ".join(" ".join(lines).split()) == LONG.strip()
    assert list(fitted(LONG, pipe)) == [LONG]
    assert list(fitted("x" * 100, terminal)) == ["x" * 100]
    assert list(fitted("", terminal)) == [""]


@pytest.mark.parametrize("show", ["lines", "note", "error", "usage"])
def test_everything_that_is_printed_fits_its_terminal(
    show: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results, warnings and errors: there is no other way out."""
    monkeypatch.setenv("COLUMNS", "60")
    out, err = Terminal(is_terminal=True), Terminal(is_terminal=True)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    printing: dict[str, Callable[[], None]] = {
        "lines": lambda: show_lines([LONG]),
        "note": lambda: note(LONG),
        "error": Findings("what is wrong:", LONG).show,
        "usage": lambda: main(["release", "make", "--no-" + "such option " * 10]),
    }
    with suppress(SystemExit):
        printing[show]()
    lines = (out.written + err.written).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
