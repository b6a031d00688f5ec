"""A key-value bucket, as NATS has them: it keeps the last value of each key, and numbers every change."""

from collections.abc import AsyncGenerator, Collection
from datetime import datetime
from typing import Protocol, TypeAlias

from attrs import frozen


@frozen
class Entry:
    """A change of a key. value: `None` if it was deleted. revision: higher than that of every earlier change.

    at: by the clock of the bucket's server.
    """

    key: str
    value: bytes | None
    revision: int
    at: datetime


Entries: TypeAlias = AsyncGenerator[Entry, None]


class Bucket(Protocol):
    """One bucket."""

    async def put(self, key: str, value: bytes) -> None:
        """Let the value of `key` be `value`."""

    async def delete(self, key: str) -> None:
        """Delete `key`, if it is there."""

    async def keys(self) -> Collection[str]:
        """Return the keys that have a value."""

    def watch(self) -> Entries:
        """Yield the last change of each key, then each further one; some that another replaced may be left out."""
