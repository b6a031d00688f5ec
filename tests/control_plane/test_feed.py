"""The end of the log in memory: in order, without gaps, and followers wake when it grows."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.messages.log_entry import LogRow

pytestmark = pytest.mark.anyio


def _rows(first: int, count: int) -> list[LogRow]:
    return [
        LogRow(seq, "2026-05-16T01:00:00.000000Z", "plan_action", None, None, "{}", None)
        for seq in range(first, first + count)
    ]


@given(
    head=st.integers(0, 20),
    batches=st.lists(st.integers(0, 5), max_size=8),
    kept=st.integers(1, 12),
    after=st.integers(0, 60),
    limit=st.integers(1, 10),
)
def test_what_comes_after_a_row_is_given_whole_or_not_at_all(
    head: int, batches: list[int], kept: int, after: int, limit: int
) -> None:
    """Rows that are not kept any more are left to the store; nothing in between is left out."""
    feed, log = Feed(head, rows_kept=kept), list[int]()
    for count in batches:
        feed.add(_rows(feed.head + 1, count))
        log += range(head + 1 + len(log), head + 1 + len(log) + count)

    found = feed.after(after, limit)

    expected = [seq for seq in log if seq > after][:limit]
    has_all = after >= head + len(log) - min(kept, len(log))
    assert feed.head == head + len(log)
    assert (None if found is None else [row.seq for row in found]) == (
        expected if has_all else None
    )


def test_after_a_gap_the_rows_before_it_are_left_to_the_store() -> None:
    """A follower would take what is kept for the whole."""
    feed = Feed(7)
    feed.add(_rows(8, 1))
    feed.add(_rows(10, 1))

    assert feed.head == 10
    assert feed.after(8, 5) is None
    assert [row.seq for row in feed.after(9, 5) or ()] == [10]


def test_long_rows_are_left_to_the_store_before_they_fill_the_memory() -> None:
    """A host may report a megabyte in each row. A row that alone is too long is not kept either."""
    feed = Feed(bytes_kept=1_000)
    long = [row._replace(payload="x" * 400) for row in _rows(1, 3)]
    feed.add(long)

    assert feed.head == 3
    assert feed.after(0, 5) is None
    assert [row.seq for row in feed.after(1, 5) or ()] == [2, 3]

    feed.add([_rows(4, 1)[0]._replace(payload="x" * 1_001)])
    assert feed.head == 4
    assert feed.after(3, 5) is None

    feed.add(_rows(5, 2))
    assert [row.seq for row in feed.after(4, 5) or ()] == [5, 6]


async def test_a_follower_wakes_when_the_log_grows() -> None:
    """It waits for a row after the last that it knows, and not for one that is there."""
    feed, woken = Feed(3), list[int]()

    async def follow() -> None:
        await feed.beyond(3)
        woken.append(feed.head)

    with anyio.fail_after(5):
        await feed.beyond(2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            feed.add([])
            await anyio.wait_all_tasks_blocked()
            assert woken == []
            feed.add(_rows(4, 2))
    assert woken == [5]


async def test_a_wait_for_a_feed_that_is_closed_ends_at_once() -> None:
    """The control plane is about to end."""
    feed = Feed(3)
    feed.close()

    with anyio.fail_after(5):
        await feed.beyond(3)
