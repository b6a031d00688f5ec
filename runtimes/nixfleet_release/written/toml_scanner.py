"""Reads TOML text into tables, with the position of every key and value, and every syntax error.

`tomllib` alone decides whether a text is valid TOML and what its content is. But it reports no positions and stops at
the first error, so the scanner here also goes through the text, statement by statement. For valid text, only the
scanner's positions are used. For invalid text, the scanner resumes after each error at the next line that looks like a
statement, so that all errors are found, and its content is used for further checks. A name that is defined twice is
such an error: the first definition counts.
"""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from attrs import frozen

from nixfleet_runtime.documents.problems import DUPLICATE, Place, Problem, at, quoted

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_END_OF_LINE = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"' r"|'[^'\n]*'")
_LONG_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}", re.DOTALL)
_LONG_QUOTES = ('"""', "'''")
_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d[^\s,\]}#]*")
_BARE_VALUE = re.compile(r"[^\s,\]}#]+")
_STATEMENT = re.compile(
    r"""^[ \t]*(?:\[|(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*(?:\.[^=:\n]*)?[=:])""",
    re.MULTILINE,
)
_NESTED_MAX = 64
_A_VALUE = "a string in quotes, a number, true, false, a date, [...] or {...}"
_ERROR_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@frozen
class TomlSource:
    """The content of a text, its positions, and its syntax errors.

    keys, values: positions by path. is_whole: whether no statement had to be skipped.
    """

    content: Mapping[str, object]
    keys: Mapping[str, Place]
    values: Mapping[str, Place]
    problems: tuple[Problem, ...] = ()
    is_whole: bool = True


def read_source(text: str, file: str) -> TomlSource:
    """Return the content of `text`. file: the file name in positions."""
    scanner = _Scanner(text, file)
    scanner.scan()
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems = tuple(scanner.problems) or (_problem_of(error, text, file),)
        return TomlSource(scanner.root, scanner.keys, scanner.values, problems, scanner.is_whole)
    except RecursionError:
        problem = Problem(
            "", "not TOML", "values nested a few levels deep", "more", place=Place(file)
        )
        return TomlSource({}, {}, {}, (problem,), is_whole=False)
    return TomlSource(content, scanner.keys, scanner.values)


def _problem_of(error: tomllib.TOMLDecodeError, text: str, file: str) -> Problem:
    message = str(error)
    place = _ERROR_PLACE.search(message)
    line, column = place.groups() if place else (None, None)
    return Problem(
        "",
        "not TOML",
        "TOML 1.0",
        _ERROR_PLACE.sub("", message),
        place=Place(file, int(line or text.count("\n") + 1), int(column or 1)),
    )


class _Broken(Exception):
    """The text is not TOML at offset `at`. path: of the broken statement, if known."""

    def __init__(self, at: int, expected: str, path: str | None = None, found: str = "") -> None:
        super().__init__(at, expected)
        self.at = at
        self.expected = expected
        self.path = path
        self.found = found


@frozen
class _Key:
    name: str
    at: int


class _Scanner:
    """The scan of one text."""

    def __init__(self, text: str, file: str) -> None:
        self.root: dict[str, object] = {}
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self.is_whole = True
        self._text = text
        self._file = file
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._at = 0
        self._table: dict[str, object] = self.root
        self._path = ""
        self._headed: set[str] = set()  # tables that had a header
        self._arrays: set[str] = set()  # arrays whose items have headers
        self._closed: set[str] = set()  # paths that were assigned with `=`

    def scan(self) -> None:
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            start = self._at
            try:
                self._header() if self._peek() == "[" else self._statement()
            except _Broken as broken:
                self._note(broken)
                self._resume(start)

    # --- statements ------------------------------------------------------------------------------

    def _header(self) -> None:
        start = self._at
        is_item = self._text.startswith("[[", start)
        closing = "]]" if is_item else "]"
        self._at += len(closing)
        keys = self._dotted_key()
        is_closed = self._takes(closing)
        if not is_closed or not self._is_at_end_of_line():
            expected = "the end of the line" if is_closed else f"{closing!r}"
            self._note(_Broken(self._at, expected, self._spelt(keys, "")))
            self._at = self._line_end(self._at)
        self._open(keys, is_item=is_item)

    def _statement(self) -> None:
        keys = self._dotted_key()
        if not self._takes("="):
            raise _Broken(self._at, "'=' and a value", self._spelt(keys))
        path = self._spelt(keys)
        # Of duplicates, the position of the first is kept.
        is_new = path not in self.values
        value = self._value(path, is_new, 0)
        self._put(self._table, self._path, keys, value)
        if not self._is_at_end_of_line():
            raise _Broken(self._at, "the end of the line", path)

    def _open(self, keys: list[_Key], *, is_item: bool) -> None:
        """Continue in the table, or new array item, of a header; after a duplicate, in a table that is discarded."""
        table, path = self.root, ""
        for key in keys[:-1]:
            path = at(path, key.name)
            self._place(path, key.at)
            inner = table.setdefault(key.name, {})
            if isinstance(inner, list) and path in self._arrays:
                path = at(path, len(inner) - 1)
                inner = inner[-1]
            if not isinstance(inner, dict) or path in self._closed:
                return self._open_nowhere(path, key)
            table = inner
        last = keys[-1]
        path = at(path, last.name)
        if is_item:
            return self._open_item(table, path, last)
        inner = table.setdefault(last.name, {})
        if not isinstance(inner, dict) or self._is_complete(path):
            return self._open_nowhere(path, last)
        self._headed.add(path)
        self._place(path, last.at)
        self._table, self._path = inner, path
        return None

    def _open_item(self, table: dict[str, object], path: str, key: _Key) -> None:
        items = table.setdefault(key.name, [])
        if not isinstance(items, list) or path in self._closed:
            return self._open_nowhere(path, key)
        self._arrays.add(path)
        items.append({})
        self._place(path, key.at)
        self._table, self._path = items[-1], at(path, len(items) - 1)
        self._place(self._path, key.at)
        return None

    def _open_nowhere(self, path: str, key: _Key) -> None:
        self._note_duplicate(path, key.at)
        self._table, self._path = {}, "\0"  # no real path begins with NUL

    def _put(self, table: dict[str, object], path: str, keys: list[_Key], value: object) -> None:
        for key in keys[:-1]:
            path = at(path, key.name)
            self._place(path, key.at)
            inner = table.setdefault(key.name, {})
            if not isinstance(inner, dict) or self._is_complete(path):
                return self._note_duplicate(path, key.at)
            table = inner
        last = keys[-1]
        path = at(path, last.name)
        if last.name in table:
            return self._note_duplicate(path, last.at)
        self.keys[path] = self._place_of(last.at)
        self._closed.add(path)
        table[last.name] = value
        return None

    def _is_complete(self, path: str) -> bool:
        """Return whether the path already has a header or a value."""
        return path in self._headed or path in self._closed

    # --- keys and values -------------------------------------------------------------------------

    def _dotted_key(self, path: str | None = None) -> list[_Key]:
        keys = [self._key(path)]
        while self._takes("."):
            keys.append(self._key(path))
        return keys

    def _key(self, path: str | None) -> _Key:
        self._skip(_SPACE)
        start = self._at
        if bare := _BARE_KEY.match(self._text, start):
            self._at = bare.end()
            key = _Key(bare.group(), start)
        elif string := _STRING.match(self._text, start):
            self._at = string.end()
            key = _Key(str(self._literal(string.group(), start, "")), start)
        else:
            raise _Broken(start, "a key", path)
        self._skip(_SPACE)
        return key

    def _value(self, path: str, is_new: bool, depth: int) -> object:
        self._skip(_SPACE)
        start = self._at
        if is_new:
            self.values[path] = self._place_of(start)
        match self._peek():
            case "[":
                return self._array(path, is_new, depth)
            case "{":
                return self._inline_table(path, is_new, depth)
            case '"' | "'":
                is_long = self._text.startswith(_LONG_QUOTES, start)
                string = (_LONG_STRING if is_long else _STRING).match(self._text, start)
                if not string:
                    raise _Broken(start, "a closing quote", path)
                self._at = string.end()
                return self._literal(string.group(), start, path)
            case _:
                bare = _DATE_AND_TIME.match(self._text, start) or _BARE_VALUE.match(
                    self._text, start
                )
                if not bare:
                    raise _Broken(start, _A_VALUE, path)
                self._at = bare.end()
                return self._literal(bare.group(), start, path)

    def _array(self, path: str, is_new: bool, depth: int) -> list[object]:
        items = list[object]()
        for _ in self._members("]", path, depth):
            items.append(self._value(at(path, len(items)), is_new, depth + 1))
        return items

    def _inline_table(self, path: str, is_new: bool, depth: int) -> dict[str, object]:
        table = dict[str, object]()
        for _ in self._members("}", path, depth):
            keys = self._dotted_key(path)
            inner = self._spelt(keys, path)
            if not self._takes("="):
                raise _Broken(self._at, "'=' and a value", path)
            self._put(table, path, keys, self._value(inner, is_new, depth + 1))
        return table

    def _members(self, closing: str, path: str, depth: int) -> Iterator[None]:
        """Yield before each member of the array or inline table that opens here; end after its closing bracket."""
        if depth > _NESTED_MAX:
            raise _Broken(self._at, f"at most {_NESTED_MAX} nested values", path)
        start = self._at
        self._at += 1
        is_first, is_in_line = True, closing == "}"
        while True:
            is_in_line = self._skip_blank(path, is_in_line=is_in_line)
            if self._peek() == closing and (is_first or closing == "]"):
                break
            yield
            is_first = False
            is_in_line = self._skip_blank(path, is_in_line=is_in_line)
            if self._peek() == closing:
                break
            if not self._takes(","):
                if self._is_at_statement():
                    raise _Broken(start, f"a closing '{closing}'", path)
                raise _Broken(self._at, f"',' or '{closing}'", path)
        self._at += 1

    def _skip_blank(self, path: str, *, is_in_line: bool) -> bool:
        """Skip blanks and comments; where a line must not end, report that once."""
        self._skip(_SPACE)
        is_broken = is_in_line and self._is_at_end_of_line() and self._at < len(self._text)
        if is_broken:
            self._note(_Broken(self._at, "'}' in the same line", path))
        self._skip(_BLANK)
        return is_in_line and not is_broken

    def _literal(self, text: str, start: int, path: str) -> object:
        try:
            return tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            raise _Broken(start, _A_VALUE, path, quoted(text)) from None

    # --- position in the text --------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if skipped := pattern.match(self._text, self._at):
            self._at = skipped.end()

    def _takes(self, text: str) -> bool:
        self._skip(_SPACE)
        is_next = self._text.startswith(text, self._at)
        self._at += len(text) if is_next else 0
        return is_next

    def _is_at_end_of_line(self) -> bool:
        self._skip(_SPACE)
        return _END_OF_LINE.match(self._text, self._at) is not None

    def _is_at_statement(self) -> bool:
        """Return whether a line begins here that looks like a new statement."""
        begin = self._text.rfind("\n", 0, self._at) + 1
        is_first_in_line = not self._text[begin : self._at].strip()
        return is_first_in_line and _STATEMENT.match(self._text, begin) is not None

    def _resume(self, start: int) -> None:
        # From the start of the statement, because an apparent long string may be unterminated.
        following = _STATEMENT.search(self._text, self._line_end(max(start, self._at - 1)))
        self._at = following.start() if following else len(self._text)

    def _line_end(self, at: int) -> int:
        end = self._text.find("\n", at)
        return len(self._text) if end < 0 else end + 1

    # --- places and problems ---------------------------------------------------------------------

    def _place_of(self, offset: int) -> Place:
        line = bisect_right(self._lines, offset)
        return Place(self._file, line, offset - self._lines[line - 1] + 1)

    def _place(self, path: str, offset: int) -> None:
        """Record the position of a table; of several headers, the first."""
        self.keys.setdefault(path, self._place_of(offset))
        self.values.setdefault(path, self._place_of(offset))

    def _spelt(self, keys: list[_Key], path: str | None = None) -> str:
        path = self._path if path is None else path
        for key in keys:
            path = at(path, key.name)
        return path

    def _note(self, broken: _Broken) -> None:
        self.is_whole = self.is_whole and broken.path is not None
        rest = self._text[broken.at : self._line_end(broken.at)].strip()
        found = broken.found or (quoted(rest) if rest else "the end of the line")
        path = (broken.path or "").lstrip("\0.")
        self.problems.append(
            Problem(path, "not TOML", broken.expected, found, place=self._place_of(broken.at))
        )

    def _note_duplicate(self, path: str, offset: int) -> None:
        path = path.lstrip("\0.")
        first = self.keys.get(path) or self.values.get(path)
        expected = "one definition" + (f" (the first is in line {first.line})" if first else "")
        self.problems.append(
            Problem(path, DUPLICATE, expected, "another", place=self._place_of(offset))
        )
