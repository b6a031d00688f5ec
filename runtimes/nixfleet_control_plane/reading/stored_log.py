"""The log of a store, read beside the process that has the store, by code that waits for each answer.

`StoredLog` is one moment of it, `FollowedLog` what is looked at again and again.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from nixfleet_control_plane.history.retention.whole_log import rows_before
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import Queries

T = TypeVar("T")

PAGE_LENGTH: Final = 1_000
Looking: TypeAlias = Callable[[], AbstractAsyncContextManager[Queries]]
"""Opens the read port of a store as of now. Raises: what the read port raises."""


class StoredLog:
    """A store that is read: each question waits for its answer, and raises what `Queries` does."""

    def __init__(self, portal: BlockingPortal, queries: Queries) -> None:
        self._portal = portal
        self._queries = queries

    def ask(self, question: Callable[[Queries], Awaitable[T]]) -> T:
        """Return the answer to `question`."""
        return self._portal.call(question, self._queries)

    def rows(self, after_seq: int = 0) -> Iterator[LogRow]:
        """Yield the log's rows after row `after_seq`, in order."""
        while page := self._page(after_seq):
            yield from page
            after_seq = page[-1].seq

    def _page(self, after_seq: int) -> tuple[LogRow, ...]:
        return self.ask(lambda it: it.log_rows(None, after_seq=after_seq, limit=PAGE_LENGTH))

    def rows_before(self, exports: Path | None) -> Iterator[LogRow]:
        """Yield the rows that were exported to the directory `exports` and dropped, each verified.

        Raises: RowsDropped, if there are some and `exports` is `None`; ExportAltered, ExportMissing, OSError.
        """
        return rows_before(self.ask(lambda it: it.log_start()), exports)

    def whole_log(self, exports: Path | None) -> Iterator[LogRow]:
        """Yield every row from the first on. Raises: as `rows_before`."""
        yield from self.rows_before(exports)
        yield from self.rows()


class FollowedLog:
    """A store's log, which grows: each look has it as of then."""

    def __init__(self, portal: BlockingPortal, looking: Looking) -> None:
        self._portal = portal
        self._looking = looking

    @contextmanager
    def look(self) -> Iterator[StoredLog]:
        """Open the log as it is now. Raises: what the read port raises."""
        with _open(self._portal, self._looking()) as queries:
            yield StoredLog(self._portal, queries)


@contextmanager
def read_once(opened: AbstractAsyncContextManager[Queries]) -> Iterator[StoredLog]:
    """Give the log of the read port that `opened` opens, under an event loop of its own."""
    with start_blocking_portal() as portal, _open(portal, opened) as queries:
        yield StoredLog(portal, queries)


@contextmanager
def followed(opened: AbstractAsyncContextManager[Looking]) -> Iterator[FollowedLog]:
    """Give the log that `opened` lets be looked at, under an event loop of its own."""
    with start_blocking_portal() as portal, _open(portal, opened) as looking:
        yield FollowedLog(portal, looking)


@contextmanager
def _open(portal: BlockingPortal, opened: AbstractAsyncContextManager[T]) -> Iterator[T]:
    body: list[Exception] = []
    with portal.wrap_async_context_manager(opened) as given:
        try:
            yield given
        except Exception as error:
            # What the caller raises is no matter of the store, whose context may wrap it.
            body.append(error)
    if body:
        raise body[0]
