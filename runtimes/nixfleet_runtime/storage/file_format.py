"""What kinds of database files there are, by their version: a script for new ones, and numbered steps for older ones.

Data alone; `sqlite` opens files by it and `upgrade` takes them from an earlier version to the current one. Both kinds,
a control plane's database and an agent's journal, keep their scripts beside the code that reads them.
Source: docs/how-to/upgrading.md; docs/spec/runtimes.md, Versions.
"""

import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from itertools import takewhile
from typing import Final

from attrs import frozen

FIRST_VERSION: Final = 1


@frozen
class Step:
    """What leads from the version before `version` to it. script: statements of SQL, without those of a transaction."""

    version: int
    script: str

    @property
    def summary(self) -> str:
        """What the step does, in a sentence or two: the comment that its script begins with."""
        comment = takewhile(lambda line: line.startswith("--"), self.script.splitlines())
        return " ".join(line.removeprefix("--").strip() for line in comment)


@frozen
class FileFormat:
    """One kind of database file. kind: what it is, for people. schema: the script for a new file.

    steps: in order, without a gap, from version 2 to the current one.
    """

    kind: str
    application_id: int
    schema: str
    steps: tuple[Step, ...] = ()

    def __attrs_post_init__(self) -> None:
        numbers = [step.version for step in self.steps]
        assert numbers == list(range(FIRST_VERSION + 1, self.version + 1)), numbers

    @property
    def version(self) -> int:
        """The version that is written now."""
        return FIRST_VERSION + len(self.steps)

    def steps_after(self, version: int) -> tuple[Step, ...]:
        """Return the steps that a file of `version` needs, in order."""
        return tuple(step for step in self.steps if step.version > version)


def packaged_format(package: str, kind: str, application_id: int) -> FileFormat:
    """Return the format whose scripts are in `package`: schema.sql, and schema_2.sql and so on for the steps."""
    directory = files(package)

    def steps() -> Iterator[Step]:
        version = FIRST_VERSION + 1
        while (script := directory.joinpath(f"schema_{version}.sql")).is_file():
            yield Step(version, script.read_text(encoding="utf-8"))
            version += 1

    schema = directory.joinpath("schema.sql").read_text(encoding="utf-8")
    return FileFormat(kind, application_id, schema, tuple(steps()))


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script one by one; those of a trigger belong to its statement."""
    pending = ""
    for part in script.split(";")[:-1]:  # The last one is what follows the last statement.
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    assert not pending, pending
