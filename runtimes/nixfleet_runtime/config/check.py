"""The report of `nixfleet config check`: which side a file configures, and every option with its source, or every
problem.

It checks everything that a start checks, and starts nothing.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_runtime.config.options import (
    ConfigError,
    Option,
    Section,
    Value,
    ValueSource,
    load_content,
)
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.documents.tables import read_toml

Lines: TypeAlias = tuple[str, ...]


@frozen
class Side:
    """A side that has a configuration. keys: the top-level keys of its file."""

    name: str
    keys: frozenset[str]
    read: Callable[[Section], object]


def check_config(
    file: Path, environ: Mapping[str, str], sides: Sequence[Side]
) -> tuple[Lines, tuple[Problem, ...]]:
    """Return the effective configuration in `file` as lines, or its problems; one of the two is empty.

    sides: those it may configure. Its top-level keys decide which.
    """
    content = read_toml(file)
    if isinstance(content, Problem):
        return (), (content,)
    side = side_of(content, sides)
    if side is None:
        return (), (_of_no_side(file, content, sides),)
    try:
        loaded = load_content(file, content, environ, side.read)
    except ConfigError as error:
        return (), error.problems
    return (f"# {side.name}: {file}", *describe(loaded.options)), ()


def side_of(content: Mapping[str, object], sides: Sequence[Side]) -> Side | None:
    """Return the side that has the most keys of `content`, `None` if several have as many."""
    counts = [len(content.keys() & side.keys) for side in sides]
    most = max(counts)
    return sides[counts.index(most)] if counts.count(most) == 1 else None


def describe(options: Iterable[Option]) -> Lines:
    """Return the options as TOML, one per line, each with its source."""
    settings = [(_setting(option), _source(option)) for option in options]
    width = max((len(setting) for setting, _ in settings), default=0)
    return tuple(f"{setting:{width}}  # {source}" for setting, source in settings)


def _setting(option: Option) -> str:
    if option.value is None:
        return f"# {option.path} is not set"
    return f"{option.path} = {toml_text(option.value)}"


def toml_text(value: Value) -> str:
    """Return a value in TOML syntax; empty for `None`."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
        case tuple():
            return f"[{', '.join(map(toml_text, value))}]"
        case _:
            assert_never(value)


def _source(option: Option) -> str:
    match option.source:
        case ValueSource.DEFAULT | ValueSource.FILE:
            return option.source.value
        case ValueSource.ENVIRONMENT:
            return option.variable
        case _:
            assert_never(option.source)


def _of_no_side(file: Path, content: Mapping[str, object], sides: Sequence[Side]) -> Problem:
    shared = frozenset.intersection(*(side.keys for side in sides))
    known = (f"the {side.name}'s {', '.join(sorted(side.keys - shared))}" for side in sides)
    return Problem(
        str(file),
        "cannot determine which side it configures",
        " or ".join(known),
        ", ".join(sorted(content)) or "nothing",
    )
