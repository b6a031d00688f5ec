"""Files to one document: a fleet is declared in one TOML file, or in a directory of them.

The files of a directory are one declaration: tables of one name are one table, and the arrays at the
top (budgets, edges) are put together. Nothing is overridden: what two files both say is a problem. So
the names of the files decide nothing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from nixfleet_release.errors import DeclarationError
from nixfleet_runtime.problems import Problem, at
from nixfleet_runtime.reading import read_toml


@frozen
class Written:
    """What the files of a declaration say together. repeated: what more than one of them says."""

    content: Mapping[str, object]
    repeated: tuple[Problem, ...] = ()


def read_document(path: Path) -> Written:
    """Return what the declaration at `path`, a file or a directory, says.

    Raises: DeclarationError, for all files that cannot be read as TOML.
    """
    problems: list[Problem] = []
    documents: dict[str, Mapping[str, object]] = {}
    for file in _files(path, problems):
        content = read_toml(file)
        if isinstance(content, Problem):
            problems.append(content)
        else:
            documents[file.name] = content
    if problems:
        raise DeclarationError(problems)
    return join(documents)


def join(documents: Mapping[str, Mapping[str, object]]) -> Written:
    """Return what `documents`, by the names of their files, say together."""
    joined = _Joined()
    for file, document in sorted(documents.items()):
        joined.add(file, document)
    return Written(joined.content, tuple(joined.problems))


class _Joined:
    """Documents put together so far, and which file was the first to say what."""

    def __init__(self) -> None:
        self.content: dict[str, object] = {}
        self.problems: list[Problem] = []
        self._first_file: dict[str, str] = {}

    def add(self, file: str, document: Mapping[str, object]) -> None:
        """Add what `file` says."""
        self._add_table(file, document, self.content, "")

    def _add_table(
        self, file: str, table: Mapping[str, object], into: dict[str, object], path: str
    ) -> None:
        for key, value in table.items():
            place = at(path, key)
            first_file = self._first_file.setdefault(place, file)
            known = into.setdefault(key, {} if isinstance(value, dict) else [])
            if isinstance(value, dict) and isinstance(known, dict):
                self._add_table(file, value, known, place)
            elif isinstance(value, list) and isinstance(known, list) and not path:
                known.extend(value)
            elif first_file == file:
                into[key] = value
            else:
                expected = f"it in one file ({first_file})"
                self.problems.append(Problem(place, "said twice", expected, f"it in {file} too"))


def _files(path: Path, problems: list[Problem]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = sorted(path.glob("*.toml"))
    if not files:
        problems.append(Problem(str(path), "declares nothing", "at least one .toml file", "none"))
    yield from files
