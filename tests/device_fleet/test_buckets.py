"""The contract of a bucket, kept by the one in memory and by the one on a NATS server."""

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import nats
import pytest
from nats.js import JetStreamContext

from examples.device_fleet.buckets import Bucket, Entries, Entry
from examples.device_fleet.demonstration.device import Device
from examples.device_fleet.demonstration.memory_bucket import MemoryBucket
from examples.device_fleet.demonstration.token_identities import Expected, TokenIdentities
from examples.device_fleet.edge import BucketConsumer, BucketPublisher, BucketRegistry
from examples.device_fleet.log import FactLog
from examples.device_fleet.model import (
    HEARTBEAT_TTL,
    Counters,
    DeploymentDeclared,
    DeploymentName,
    DeviceId,
)
from examples.device_fleet.nats_bucket import open_bucket
from examples.device_fleet.ports import EnrollmentIntent
from examples.device_fleet.service import DeviceFleet, EffectRunner
from nixfleet import FrozenMap
from nixfleet_runtime.kernel.clock import FakeClock, SystemClock
from tools.nats.server import running_server, why_not

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
PATIENCE_SECONDS = 10
TILL = DeviceId("till-01")
APP = DeploymentName("app")
CONFIG = 'listen: "127.0.0.1:{port}"\njetstream { store_dir: "{directory}" }\n'


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


class TestNatsBucket(BucketContract):
    """The bucket on a server of its own, one for each test."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bucket]:
        async with jetstream() as stream:
            yield await open_bucket(stream, "bucket")

    async def test_a_bucket_is_opened_again_with_what_it_had(self) -> None:
        """A restart finds its buckets, and the heartbeats' forget after a minute."""
        async with jetstream() as stream:
            first = await open_bucket(stream, "device-heartbeat", ttl=timedelta(seconds=60))
            await first.put("a", b"1")
            second = await open_bucket(stream, "device-heartbeat", ttl=timedelta(seconds=60))
            assert list(await second.keys()) == ["a"]
            assert (await second.store.status()).ttl == 60

    async def test_the_fleet_works_on_it(self, tmp_path: Path) -> None:
        """Desired state reaches a device, and what it says is counted."""
        async with jetstream() as stream:
            info, desired, states = [
                await open_bucket(stream, name)
                for name in ("device-info", "desired-state", "device-state")
            ]
            heartbeats = await open_bucket(stream, "device-heartbeat", ttl=HEARTBEAT_TTL)
            log = FactLog(tmp_path / "facts")
            counted, counters = anyio.create_memory_object_stream[Counters](math.inf)
            fleet = DeviceFleet(
                log,
                BucketRegistry(info),
                BucketConsumer(states, heartbeats),
                TokenIdentities({TILL: Expected(sha256(b"secret").digest(), FrozenMap())}),
                EffectRunner(BucketPublisher(desired), lambda _, each: counted.send_nowait(each)),
                SystemClock(),
            )
            with anyio.fail_after(PATIENCE_SECONDS), counted, counters:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(fleet.run)
                    await fleet.enroll(EnrollmentIntent(TILL, "its key", "secret"))
                    tasks.start_soon(Device(TILL, desired, states, heartbeats).run)
                    await fleet.post(DeploymentDeclared(APP, "app:1", FrozenMap()))
                    while await counters.receive() != Counters(running=1):
                        pass
                    tasks.cancel_scope.cancel()
            log.close()


@asynccontextmanager
async def jetstream() -> AsyncIterator[JetStreamContext]:
    """Run a NATS server with nothing in it, or skip."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        TemporaryDirectory(prefix="nixfleet-nats-") as directory,
        running_server(Path(directory), CONFIG) as server,
    ):
        connection = await nats.connect(server.url)
        try:
            yield connection.jetstream()
        finally:
            await connection.close()


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
