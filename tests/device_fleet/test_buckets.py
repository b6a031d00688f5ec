"""The contract of a bucket, kept by the one in memory and by the one on a NATS server."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from examples.device_fleet.buckets import Bucket, Entries, Entry
from examples.device_fleet.demonstration.memory_bucket import MemoryBucket
from nixfleet_runtime.kernel.clock import FakeClock

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
PATIENCE_SECONDS = 10


async def read(entries: Entries, count: int) -> list[Entry]:
    with anyio.fail_after(PATIENCE_SECONDS):
        return [await anext(entries) for _ in range(count)]


def told(entries: list[Entry]) -> list[tuple[str, bytes | None]]:
    return [(entry.key, entry.value) for entry in entries]


class BucketContract:
    """What the fleet relies on."""

    def opened(self) -> AbstractAsyncContextManager[Bucket]:
        """Return an empty bucket."""
        raise NotImplementedError

    async def test_a_watch_begins_with_the_last_value_of_each_key(self) -> None:
        """Who begins late learns what is there, in the order in which it became so."""
        async with self.opened() as bucket:
            for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3")):
                await bucket.put(key, value)
            async with aclosing(bucket.watch()) as entries:
                assert told(await read(entries, 2)) == [("b", b"2"), ("a", b"3")]

    async def test_a_watch_goes_on_with_each_change(self) -> None:
        """A put and a deletion come after what was there, and the revisions rise."""
        async with self.opened() as bucket:
            await bucket.put("a", b"1")
            async with aclosing(bucket.watch()) as entries:
                found = await read(entries, 1)
                await bucket.put("b.c", b"")
                found += await read(entries, 1)
                await bucket.delete("a")
                found += await read(entries, 1)
        assert told(found) == [("a", b"1"), ("b.c", b""), ("a", None)]
        assert [entry.revision for entry in found] == sorted({entry.revision for entry in found})
        assert all(entry.at.tzinfo is not None for entry in found)

    async def test_a_watch_that_begins_late_learns_what_was_deleted(self) -> None:
        """A process that was down must not keep what is gone."""
        async with self.opened() as bucket:
            await bucket.put("a", b"1")
            await bucket.put("b", b"2")
            await bucket.delete("a")
            async with aclosing(bucket.watch()) as entries:
                assert told(await read(entries, 2)) == [("b", b"2"), ("a", None)]

    async def test_two_watches_say_the_same(self) -> None:
        """An entry has one revision, whoever reads it."""
        async with (
            self.opened() as bucket,
            aclosing(bucket.watch()) as one,
            aclosing(bucket.watch()) as other,
        ):
            await bucket.put("a", b"1")
            assert await read(one, 1) == await read(other, 1)

    async def test_keys_are_those_with_a_value(self) -> None:
        """A deleted key is none, and an empty value is a value."""
        async with self.opened() as bucket:
            assert list(await bucket.keys()) == []
            for key in ("a", "b", "c"):
                await bucket.put(key, b"")
            await bucket.delete("b")
            assert sorted(await bucket.keys()) == ["a", "c"]


class TestMemoryBucket(BucketContract):
    """The bucket in memory."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bucket]:
        yield MemoryBucket(FakeClock(START))

    async def test_an_entry_that_is_older_than_its_ttl_is_gone(self) -> None:
        """Neither keys nor a new watch have it."""
        clock = FakeClock(START)
        bucket = MemoryBucket(clock, ttl=timedelta(seconds=60))
        await bucket.put("a", b"")
        clock.advance(59)
        await bucket.put("b", b"")
        assert sorted(await bucket.keys()) == ["a", "b"]
        clock.advance(1)
        assert list(await bucket.keys()) == ["b"]
        async with aclosing(bucket.watch()) as entries:
            assert told(await read(entries, 1)) == [("b", b"")]
