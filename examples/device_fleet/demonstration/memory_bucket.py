"""A bucket in memory. It passes the same contract as the one on NATS: tests/device_fleet/test_buckets.py."""

from collections.abc import Collection
from datetime import timedelta

import anyio

from examples.device_fleet.buckets import Entries, Entry
from nixfleet_runtime.kernel.clock import Clock


class MemoryBucket:
    """A bucket in this process. ttl: how long an entry stays."""

    def __init__(self, clock: Clock, ttl: timedelta = timedelta.max) -> None:
        self._clock, self._ttl = clock, ttl
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._changed = anyio.Event()

    async def put(self, key: str, value: bytes) -> None:
        self._enter(key, value)

    async def delete(self, key: str) -> None:
        self._enter(key, None)

    async def keys(self) -> Collection[str]:
        return [entry.key for entry in self._living() if entry.value is not None]

    async def watch(self) -> Entries:
        seen = 0
        while True:
            changed = self._changed
            for entry in self._living():
                if entry.revision > seen:
                    seen = entry.revision
                    yield entry
            await changed.wait()

    def _enter(self, key: str, value: bytes | None) -> None:
        self._revision += 1
        self._entries.pop(key, None)  # So that the dict is in the order of revisions.
        self._entries[key] = Entry(key, value, self._revision, self._clock.now())
        self._changed.set()
        self._changed = anyio.Event()

    def _living(self) -> list[Entry]:
        now = self._clock.now()
        return [entry for entry in self._entries.values() if now - entry.at < self._ttl]
