"""Joins the files of a declaration into one document: a TOML file, or a directory of TOML files.

Tables with the same name are merged, and top-level arrays (budgets, edges) are concatenated. Nothing is overridden: a
value that two files set is a problem. So the names of the files do not matter. `layers` joins several such documents.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import evolve, field, frozen

from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.toml_scanner import TomlSource, read_source
from nixfleet_runtime.documents.problems import DUPLICATE, Place, Problem, at, parent_of
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file

_TOP_ITEM = re.compile(r"([A-Za-z0-9_-]+)\[(\d+)\]")


@frozen
class Places:
    """The positions of keys and values, by path.

    whole: the position of the document. overridden: where earlier layers have the values that a later one replaced.
    """

    whole: Place
    keys: Mapping[str, Place] = field(factory=dict)
    values: Mapping[str, Place] = field(factory=dict)
    overridden: Mapping[str, tuple[Place, ...]] = field(factory=dict)

    def located(self, problem: Problem) -> Problem:
        """Return the problem with its place: that of its path, or of the nearest enclosing path that has one."""
        return problem if problem.place else evolve(problem, place=self._place_of(problem))

    def _place_of(self, problem: Problem) -> Place:
        path = problem.path
        if problem.is_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = parent_of(path)
        return self.values.get(path, self.whole)


@frozen
class Written:
    """A declaration as tables, from any source.

    problems: unreadable parts and duplicates. is_whole: whether no statement had to be skipped. layers: their names, in
    order; none if the declaration has no layers.
    """

    content: Mapping[str, object]
    places: Places
    problems: tuple[Problem, ...] = ()
    is_whole: bool = True
    layers: tuple[str, ...] = ()


def read_files(path: Path) -> Written:
    """Return the document at `path`, a file or the files of a directory.

    Raises: DeclarationError, if a file cannot be read as text.
    """
    problems: list[Problem] = []
    sources: dict[str, TomlSource] = {}
    for file in _files(path, problems):
        source = _read(file)
        if isinstance(source, Problem):
            problems.append(source)
        else:
            sources[str(file)] = source
    if problems:
        found_in_others = (each for source in sources.values() for each in source.problems)
        raise DeclarationError((*problems, *found_in_others))
    return join(sources, Place(str(path)))


def join(sources: Mapping[str, TomlSource], whole: Place) -> Written:
    """Return the joined document of `sources`, which are by file name."""
    joined = _Joined()
    for file, source in sorted(sources.items()):
        joined.add(file, source)
    return Written(
        joined.content,
        Places(whole, joined.keys, joined.values),
        tuple(joined.problems),
        all(source.is_whole for source in sources.values()),
    )


class _Joined:
    """The sources joined so far, and the first file of each path."""

    def __init__(self) -> None:
        self.content: dict[str, object] = {}
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self._first_file: dict[str, str] = {}

    def add(self, file: str, source: TomlSource) -> None:
        """Add the content of `file`."""
        arrays = ((key, value) for key, value in self.content.items() if isinstance(value, list))
        lengths = {key: len(array) for key, array in arrays}
        self._add_table(file, source, source.content, self.content, "")
        for into, places in ((self.keys, source.keys), (self.values, source.values)):
            for path, place in places.items():
                into.setdefault(_shifted(path, lengths), place)
        for problem in source.problems:
            self.problems.append(evolve(problem, path=_shifted(problem.path, lengths)))

    def _add_table(
        self,
        file: str,
        source: TomlSource,
        table: Mapping[str, object],
        into: dict[str, object],
        path: str,
    ) -> None:
        for key, value in table.items():
            place = at(path, key)
            first_file = self._first_file.setdefault(place, file)
            present = into.setdefault(key, {} if isinstance(value, dict) else [])
            if isinstance(value, dict) and isinstance(present, dict):
                self._add_table(file, source, value, present, place)
            elif isinstance(value, list) and isinstance(present, list) and not path:
                present.extend(value)
            elif first_file == file:
                into[key] = value
            else:
                expected = f"it in one file ({first_file})"
                position = source.keys.get(place, Place(file))
                self.problems.append(
                    Problem(place, DUPLICATE, expected, f"it in {file} too", place=position)
                )


def _shifted(path: str, lengths: Mapping[str, int]) -> str:
    """Return the path of a top-level array's item after the items of earlier files."""
    item = _TOP_ITEM.match(path)
    if item is None or item[1] not in lengths:
        return path
    return f"{item[1]}[{int(item[2]) + lengths[item[1]]}]{path[item.end() :]}"


def _read(file: Path) -> TomlSource | Problem:
    try:
        # As bytes, because text mode would turn CR LF into LF and change strings. A byte order mark is ignored.
        return read_source(
            read_regular_file(file, bytes_max=LARGE_FILE_BYTES_MAX).decode("utf-8-sig"), str(file)
        )
    except UnicodeDecodeError as error:
        return _unreadable(file, "not TOML", "UTF-8", str(error))
    except OSError as error:
        found = error.strerror or str(error)
        return _unreadable(file, "cannot be read", "a readable file", found)


def _unreadable(file: Path, message: str, expected: str, found: str) -> Problem:
    return Problem("", message, expected, found, place=Place(str(file)))


def _files(path: Path, problems: list[Problem]) -> Iterable[Path]:
    if not path.is_dir():
        return (path,)
    files = sorted(path.glob("*.toml"))
    if not files:
        problems.append(_unreadable(path, "is empty", "at least one .toml file", "none"))
    return files
