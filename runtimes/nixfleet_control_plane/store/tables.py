"""The tables of a store for code that reads them by SQL and waits for the rows: those of SQLite, or of another store.

The SQL that is shared keeps to words which SQLite and PostgreSQL have in common, with `?` for values.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from nixfleet_control_plane.messages.log_entry import LogRow

ChainedRow: TypeAlias = tuple[LogRow, bytes, bytes]
"""A row of the log, its `prev_hash`, and its `hash`."""


class Rows(Protocol):
    """The rows that a statement gave. Each can be read once."""

    def fetchone(self) -> Any:
        """Return the next row, `None` if there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]: ...


class Tables(Protocol):
    """Answers SELECT statements. A `sqlite3.Connection` is one."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Rows:
        """Return the rows that `sql` selects. values: in place of each `?`."""
        ...


@runtime_checkable
class ReadsItsLog(Protocol):
    """What `Tables` have as well whose log is not read by one long SELECT."""

    def chain(self, after_seq: int) -> Iterator[ChainedRow]:
        """Yield the rows after `after_seq` with their hashes, from the beginning of the log on. Raises: DamagedRow."""
        ...
