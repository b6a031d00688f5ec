"""Everything that commands print: escaped, in one table, with one form of times, or as JSON by one serialiser.

Nothing else here writes to standard output or standard error, except what is not for people: signed bytes, secrets
and generated documents. Data is escaped cell by cell, so a line end in it forges no row.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from nixfleet_cli.shared.failures import Failure
from nixfleet_cli.shared.terminal import fitted
from nixfleet_proto.codec import format_time
from nixfleet_runtime.kernel.visible import visible

Row: TypeAlias = Sequence[str]
NONE: Final = "none"
_TIME: Final = "%Y-%m-%d %H:%M:%SZ"
_GAP: Final = "  "


class Output:
    """Where a command prints, as text or as JSON.

    In JSON a failure is part of what is printed: the last object has `error`. So an object waits for the end.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._waiting: object = None

    def show(self, value: object, lines: Iterable[str]) -> None:
        """Print one thing: `value` as one line of JSON when the command ends, or its `lines` now."""
        if self.as_json:
            self._flush()
            self._waiting = value
        else:
            show_lines(lines)

    def rows(self, values: Iterable[object], rows: Iterable[Row], header: Row) -> None:
        """Print a list: each of `values` as a line of JSON, or `rows` as a table.

        A terminal gets columns below `header`; a pipe gets rows alone, cells between tabs.
        """
        if self.as_json:
            self._flush()
            for value in values:
                click.echo(json_text(value))
        elif sys.stdout.isatty():
            show_lines(table(rows, header))
        else:
            for row in rows:
                click.echo("\t".join(map(visible, row)))

    def close(self, error: click.ClickException | None = None) -> None:
        """Print what waits, with the `error` that ended the command, if one did."""
        if self.as_json and error is not None:
            shown = self._waiting if isinstance(self._waiting, Mapping) else {}
            self._waiting = {**shown, **error_value(error)}
            click.get_current_context().meta[ERROR_IS_PRINTED] = True
        self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            click.echo(json_text(self._waiting))
            self._waiting = None


ERROR_IS_PRINTED: Final = "nixfleet_cli.error_is_printed"
"""The key in a context's `meta` that says that the error is in the JSON already."""


def error_value(error: click.ClickException) -> Mapping[str, object]:
    """Return the one shape of a failure in JSON: `error`, with exitCode, message and details (its further lines)."""
    lines = error.lines if isinstance(error, Failure) else error.format_message().split("\n")
    message, *details = (line.strip() for line in lines)
    return {"error": {"exitCode": error.exit_code, "message": message, "details": details}}


def print_error(error: click.ClickException, meta: Mapping[str, object]) -> None:
    """Print a failure as JSON, unless the command did. meta: of the context, empty if no command was reached."""
    if not meta.get(ERROR_IS_PRINTED):
        click.echo(json_text(error_value(error)))


def printing(shape: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the option --json, and as its first argument an `Output`.

    shape: what is printed as JSON, for the help of the option.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--json", "as_json", is_flag=True, help=f"Print JSON: {shape}.")
        @wraps(command)
        def printed(*arguments: Any, as_json: bool, **options: Any) -> None:
            output = Output(as_json=as_json)
            try:
                command(output, *arguments, **options)
            except click.ClickException as error:
                output.close(error)
                raise
            except BaseException:
                output.close()
                raise
            output.close()

        return printed

    return decorated


def show_lines(lines: Iterable[str]) -> None:
    """Print text to standard output, each of `lines` as one line whatever is in it."""
    for line in lines:
        _echo(visible(line))


def note(line: str) -> None:
    """Print a line to standard error: what is beside the result."""
    _echo(visible(line), err=True)


def _echo(line: str, *, err: bool = False) -> None:
    for piece in fitted(line, sys.stderr if err else sys.stdout):
        click.echo(piece, err=err)


def warn(line: str) -> None:
    """Print a warning to standard error."""
    note(f"warning: {line}")


def shown_time(at: datetime) -> str:
    """Return a time as people read it, in UTC: `2026-05-16 01:00:00Z`."""
    return f"{at:{_TIME}}"


def shown_span(span: timedelta) -> str:
    """Return a length of time in its greatest unit; below nothing as nothing: `12 s`, `16 min`, `1.5 h`, `3 days`."""
    seconds = max(span.total_seconds(), 0)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def table(rows: Iterable[Row], header: Row = ()) -> Iterator[str]:
    """Yield `rows`, below `header` if there is one, with their columns aligned. Cells are escaped."""
    cells = [tuple(map(visible, row)) for row in ((header, *rows) if header else rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(padded).rstrip()


ROWS_MAX: Final = 10
"""How many rows of a list are shown in an overview."""


def section(title: str, rows: Iterable[Row], rows_max: int | None = None) -> Iterator[str]:
    """Yield `title` and the aligned `rows` below it, or that there are none.

    rows_max: after so many only their number follows; `None`: all are shown.
    """
    shown = tuple(rows)
    cut = shown if rows_max is None else shown[:rows_max]
    yield title
    yield from (f"{_GAP}{line}" for line in tuple(table(cut)) or (NONE,))
    if len(cut) < len(shown):
        yield f"{_GAP}and {len(shown) - len(cut)} more (all are in --json)"


def json_text(value: object) -> str:
    """Return `value` as JSON in ASCII on one line, so that no character of it reaches a terminal raw.

    value: mappings, sequences, sets, texts, numbers, times, enums, paths, bytes (hexadecimal), in one another.
    Raises: TypeError for anything else.
    """
    return json.dumps(_plain(value), ensure_ascii=True, separators=(",", ":"))


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return _plain(value.value)
        case str():
            return str(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case bytes():
            return value.hex()
        case datetime():
            return format_time(value)
        case Path():
            return str(value)
        case Set():
            return sorted(map(_plain, value), key=repr)
        case Sequence():
            return [_plain(item) for item in value]
        case _:
            raise TypeError(f"expected data that JSON has, found {type(value).__name__}")
