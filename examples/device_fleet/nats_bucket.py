"""A bucket on a NATS server: JetStream's key-value store, through nats-py. For asyncio, as nats-py is."""

from collections.abc import Collection
from datetime import timedelta

from attrs import frozen
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig
from nats.js.errors import NoKeysError
from nats.js.kv import KeyValue

from examples.device_fleet.buckets import Entries, Entry


@frozen
class NatsBucket:
    """A bucket that others can use at the same time."""

    store: KeyValue

    async def put(self, key: str, value: bytes) -> None:
        await self.store.put(key, value)

    async def delete(self, key: str) -> None:
        await self.store.delete(key)

    async def keys(self) -> Collection[str]:
        try:
            return await self.store.keys()
        except NoKeysError:
            return ()

    async def watch(self) -> Entries:
        watcher = await self.store.watchall()
        try:
            async for entry in watcher:
                if (
                    entry is not None
                ):  # `None`: all that was there at the beginning has been yielded.
                    value = entry.value if entry.operation is None else None
                    yield Entry(entry.key, value, entry.revision, entry.created)
        finally:
            await watcher.stop()  # type: ignore[no-untyped-call]


async def open_bucket(
    jetstream: JetStreamContext, name: str, ttl: timedelta | None = None
) -> NatsBucket:
    """Return the bucket, made if it is not there. ttl: how long an entry stays; `None`: for good."""
    config = KeyValueConfig(bucket=name, ttl=None if ttl is None else ttl.total_seconds())
    return NatsBucket(await jetstream.create_key_value(config))
