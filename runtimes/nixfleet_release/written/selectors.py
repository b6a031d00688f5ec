"""Reads selectors in TOML: a table of parts, with `and` and `not`, or a string.

The result is an expression, and the path of each name in it.
Source: docs/spec/declarations.md, Selectors.
"""

from collections.abc import Callable, Mapping

from nixfleet_release.written.declaration import SelectorDeclaration
from nixfleet_runtime.documents.problems import at, quoted
from nixfleet_runtime.documents.tables import Table
from nixfleet_state_machine.scopes.expression import (
    EVERYBODY,
    NOBODY,
    AllOf,
    Expression,
    Mention,
    Not,
    channels,
    hosts,
    tags,
    tags_any,
)
from nixfleet_state_machine.scopes.one_line import NotASelector, parse_line

SELECTOR_EXPECTED = 'a table, {...}, or a string such as "tags:web & !hosts:web-03"'
_PARTS_EXPECTED = "at least one of all = true, hosts, channel, tags, tags_any, and, not"
_LISTS: Mapping[str, tuple[str, Callable[..., Expression]]] = {
    "hosts": ("host", hosts),
    "tags": ("tag", tags),
    "tags_any": ("tag", tags_any),
}


def read_selector(table: Table, key: str) -> SelectorDeclaration:
    """Return the selector under `key`; the placeholder for an unusable one selects no host."""
    if table.is_a(str, key):
        return SelectorDeclaration.of(_of_line(table, key))
    if table.has(key) and not table.is_a(dict, key):
        table.refuse_value(key, SELECTOR_EXPECTED)
    inner = table.section(key)
    reader = _Reader(inner.path)
    expression = reader.of_table(inner) if table.is_a(dict, key) else NOBODY
    return SelectorDeclaration(expression, tuple(reader.mentioned))


def _of_line(table: Table, key: str) -> Expression:
    line = table.optional_text(key)
    try:
        return NOBODY if line is None else parse_line(line)
    except NotASelector as error:
        expected = f"at character {error.at + 1} {error.expected}"
        table.refuse(key, "not a selector", expected, f"{error.found} in {quoted(line or '')}")
        return NOBODY


class _Reader:
    """Reads the tables of one selector, and records the path, relative to `root`, of each name in it."""

    def __init__(self, root: str) -> None:
        self.mentioned: list[tuple[Mention, str]] = []
        self._root = root

    def of_table(self, table: Table) -> Expression:
        if table.is_empty():
            table.refuse(None, "selects no host", _PARTS_EXPECTED, "none")
        parts: list[Expression] = [EVERYBODY] if table.flag("all") else []
        parts += self._lists(table)
        if channel := table.optional_text("channel"):
            self._note("channel", channel, at(table.path, "channel"))
            parts.append(channels(channel))
        parts += map(self.of_table, table.array("and"))
        if table.has("not"):
            parts.append(Not(self.of_table(table.section("not"))))
        return AllOf(tuple(parts)) if parts else NOBODY

    def _lists(self, table: Table) -> list[Expression]:
        parts = list[Expression]()
        for key, (kind, expression_of) in _LISTS.items():
            names = table.some_texts(key)
            for index, name in enumerate(names):
                self._note(kind, name, at(at(table.path, key), index))
            parts += [expression_of(*names)] if names else []
        return parts

    def _note(self, kind: str, name: str, path: str) -> None:
        self.mentioned.append((Mention(kind, name), path.removeprefix(self._root)))
