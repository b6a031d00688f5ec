"""The tables of a store for code that waits: the checks, replays and exports that SQLite's tables have as well.

They run in a thread that `anyio.to_thread` started; the connection stays in the event loop that opened it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from anyio.from_thread import run

from nixfleet_control_plane.history.retention.log_start import first_seq_of
from nixfleet_control_plane.store.stored_row import LATER_OF, READ_COLUMNS, read_row
from nixfleet_control_plane.store.tables import ChainedRow
from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.dialect import arguments, in_postgresql, plain
from nixfleet_proto.errors import NixfleetError

PAGE_ROWS_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
"""How many bytes the payloads of a page take, unless it has one row: hosts decide how long theirs are."""
_ARTEFACT_BYTES: Final = PAGE_BYTES_MAX // 8
"""What a row of an artefact counts for: its contents are in another table."""
_PAGE: Final = (
    f"WITH sized AS (SELECT seq, sum(CASE kind WHEN 'artefact_accepted' THEN {_ARTEFACT_BYTES}"
    " ELSE octet_length(payload) END) OVER (ORDER BY seq) AS bytes"
    f" FROM (SELECT seq, kind, payload FROM event_log WHERE seq >= {LATER_OF} ORDER BY seq LIMIT {PAGE_ROWS_MAX})"
    " AS next)"
    f" SELECT prev_hash, hash, {READ_COLUMNS} FROM event_log WHERE seq >= (SELECT min(seq) FROM sized)"
    f" AND seq <= (SELECT coalesce(max(seq) FILTER (WHERE bytes <= {PAGE_BYTES_MAX}), min(seq)) FROM sized)"
    " ORDER BY seq"
)


class RowsWereDropped(NixfleetError):
    """Rows were exported and dropped while they were read. first_seq: the first row that is left."""

    def __init__(self, first_seq: int) -> None:
        super().__init__(first_seq)
        self.first_seq = first_seq

    def __str__(self) -> str:
        return f"the log begins at row {self.first_seq} since a moment ago, and was read from an earlier one: ask again"


class FetchedRows:
    """The rows of an answer, which are all there."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._left = iter(rows)

    def fetchone(self) -> Any:
        """Return the next row, `None` if there is none."""
        return next(self._left, None)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._left)

    def __iter__(self) -> Iterator[Any]:
        return self._left


class BlockingTables:
    """The `Tables` of a connection. first_seq, up_to_seq: the rows of the log that they have; by default all.

    Each statement sees what is committed then. The log is read a page at a time, each by a statement of its own: what
    holds a snapshot for minutes would keep the server from removing old versions of the row that each commit updates.
    """

    def __init__(
        self, connection: Connection, first_seq: int = 1, up_to_seq: int | None = None
    ) -> None:
        self._connection = connection
        self._first_seq = first_seq
        self._up_to_seq = up_to_seq

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> FetchedRows:
        """Return all rows that `sql` selects. Raises: what the connection raises."""
        query = in_postgresql(sql, self._up_to_seq)
        return FetchedRows(run(self._fetch, query, values))

    def chain(self, after_seq: int) -> Iterator[ChainedRow]:
        """Yield the rows after `after_seq` with their hashes. Raises: DamagedRow, RowsWereDropped."""
        expected = max(after_seq + 1, self._first_seq)
        while page := self.execute(_PAGE, (expected,)).fetchall():
            # A row that is missing is found by those who read; a log that begins later by now is another matter.
            is_after_gap = page[0][2] != expected and expected > 1
            if is_after_gap and (first_seq := first_seq_of(self)) > expected:
                raise RowsWereDropped(first_seq)
            for prev_hash, row_hash, *columns in page:
                yield read_row(columns), prev_hash, row_hash
            expected = page[-1][2] + 1

    async def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return plain(await self._connection.fetch(query, *arguments(values)))
