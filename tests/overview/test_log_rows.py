"""Rows for readers of the log: what memory does not have is read of the store once for all who ask for it."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field

from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.http.log_rows import BYTES_A_PORTION, KEPT_SECONDS, LogRows
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import NotReadable

pytestmark = pytest.mark.anyio
READERS = 200


def rows(first: int, last: int, payload: str = "{}") -> tuple[LogRow, ...]:
    return tuple(
        LogRow(seq, "2026-05-16T01:00:00.000000Z", "plan_action", None, None, payload, None)
        for seq in range(first, last + 1)
    )


@define
class Store:
    """A store with a log, which counts how often it is asked, and by how many at once."""

    log: tuple[LogRow, ...]
    asked: int = 0
    asking: int = 0
    most_asking: int = 0
    is_broken: bool = False
    given: list[int] = field(factory=list)

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        assert rollout_id is None
        self.asked += 1
        self.asking += 1
        self.most_asking = max(self.most_asking, self.asking)
        try:
            await anyio.lowlevel.checkpoint()
            if self.is_broken:
                raise NotReadable("event_log", "the disk is gone")
            found = tuple(row for row in self.log if row.seq > after_seq)[:limit]
            self.given.append(len(found))
            return found
        finally:
            self.asking -= 1


@define
class Seconds:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def of(store: Store, feed: Feed, seconds: Seconds | None = None) -> LogRows:
    return LogRows(lambda: feed, store, seconds or Seconds())


async def test_readers_that_come_again_after_a_restart_read_the_store_once() -> None:
    store = Store(rows(1, 900))
    read = of(store, Feed(900))
    found = list[Sequence[LogRow]]()

    async def reader() -> None:
        found.append(await read.after(100, 500))

    async with anyio.create_task_group() as readers:
        for _ in range(READERS):
            readers.start_soon(reader)

    assert [list(each) for each in found] == [list(rows(101, 600))] * READERS
    assert store.given == [250, 250]


async def test_readers_at_other_rows_read_the_store_one_after_the_other() -> None:
    store = Store(rows(1, 900))
    read = of(store, Feed(900))

    async with anyio.create_task_group() as readers:
        for after in range(0, 800, 100):
            readers.start_soon(read.after, after, 50)

    assert store.most_asking == 1


async def test_what_was_read_is_read_anew_after_a_while_since_rows_may_be_dropped() -> None:
    store, seconds = Store(rows(1, 900)), Seconds()
    read = of(store, Feed(900), seconds)
    await read.after(0, 100)
    store.log = rows(301, 900)

    seconds.now = KEPT_SECONDS + 1

    assert (await read.after(0, 100))[0].seq == 301


async def test_the_end_of_the_log_is_read_anew_since_it_grows() -> None:
    store = Store(rows(1, 50))
    feed = Feed(50)
    read = of(store, feed)
    assert len(await read.after(0, 100)) == 50

    store.log += rows(51, 60)
    feed.add(rows(51, 60))

    assert len(await read.after(0, 100)) == 60


async def test_a_portion_of_long_rows_ends_early() -> None:
    long = "x" * (BYTES_A_PORTION // 100)
    store = Store(rows(1, 2_000, long))

    found = await of(store, Feed(2_000)).after(0, 2_000)

    assert 100 <= len(found) < 500


async def test_a_store_that_cannot_be_read_is_asked_anew_by_the_next_reader() -> None:
    store = Store(rows(1, 50), is_broken=True)
    read = of(store, Feed(50))
    with pytest.raises(NotReadable):
        await read.after(0, 10)

    store.is_broken = False

    assert len(await read.after(0, 10)) == 10


async def test_a_reader_that_goes_while_it_waits_for_the_store_holds_up_no_other() -> None:
    store = Store(rows(1, 50))
    read = of(store, Feed(50))
    async with anyio.create_task_group() as readers:
        with anyio.CancelScope() as gone:
            gone.cancel()
            await read.after(0, 10)
        readers.start_soon(read.after, 0, 10)

    assert store.given == [10]
