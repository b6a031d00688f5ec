"""The buckets on the server: made, checked, written, read. What is in them is decided elsewhere.

Source: docs/spec/nats.md, Buckets.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import nats.errors
import nats.js.errors
from attrs import frozen
from nats.js.api import KeyValueConfig, StorageType, StreamConfig

from nixfleet_nats.connection import Connection, unreachable
from nixfleet_nats.errors import AnotherFleet, BucketUnfit, JetStreamMissing, NatsUnusable
from nixfleet_nats.names import Bucket

HEARTBEAT_SECONDS: Final = 900.0
"""How long a heartbeat is shown."""
VALUE_BYTES_MAX: Final = 16 * 1024
MARKER_SECONDS: Final = 60
"""How long a deletion is seen by who watches; then nothing of the key is left."""


@frozen
class _Wanted:
    """The settings of a bucket that matter."""

    history: int
    seconds: float
    value_bytes_max: int
    subjects: tuple[str, ...]

    @classmethod
    def found(cls, config: StreamConfig) -> "_Wanted":
        return cls(
            config.max_msgs_per_subject or 0,
            float(config.max_age or 0),
            config.max_msg_size or 0,
            tuple(config.subjects or ()),
        )

    def __str__(self) -> str:
        age = f"{self.seconds:g} seconds" if self.seconds else "no limit of age"
        return (
            f"a history of {self.history}, {age}, values of at most {self.value_bytes_max} bytes, "
            f"on {', '.join(self.subjects)}"
        )


class Buckets:
    """The buckets of one fleet, on one connection. fleet: whose data they have."""

    def __init__(self, connection: Connection, fleet: str) -> None:
        self._description = f"nixfleet, of the fleet {fleet}"
        self._connection = connection
        self._names = connection.target.names
        self._js = connection.client.jetstream()
        self._where = connection.target.where

    async def prepare(self) -> None:
        """Make the buckets that are not there, and check the others. Raises: NatsUnusable."""
        with self._asking():
            await self._js.account_info()
        for bucket in Bucket:
            await self._prepare(bucket)

    async def _prepare(self, bucket: Bucket) -> None:
        name = self._names.bucket(bucket)
        seconds = HEARTBEAT_SECONDS if bucket is Bucket.DEVICE_HEARTBEAT else 0.0
        wanted = _Wanted(1, seconds, VALUE_BYTES_MAX, (f"$KV.{name}.>",))
        with self._asking():
            try:
                info = await self._js.stream_info(f"KV_{name}")
            except nats.js.errors.NotFoundError:
                await self._js.create_key_value(
                    KeyValueConfig(
                        bucket=name,
                        description=self._description,
                        history=1,
                        ttl=seconds or None,
                        max_value_size=VALUE_BYTES_MAX,
                        storage=StorageType.FILE,
                        direct=True,
                    )
                )
                return
        found = _Wanted.found(info.config)
        if found != wanted:
            remedy = (
                f"remove it with `nats kv del {name}` if it is nixfleet's, or set another prefix"
            )
            raise BucketUnfit(f"{self._where}, bucket {name}", str(wanted), str(found), remedy)
        if info.config.description != self._description:
            raise AnotherFleet(
                f"{self._where}, bucket {name}",
                f"the one that says {self._description!r}",
                f"one that says {info.config.description!r}",
                "give each fleet of an account a prefix of its own",
            )

    async def put(self, bucket: Bucket, key: str, value: bytes | None) -> None:
        """Publish the value of a key, `None`: that it is gone. It may not be stored yet. Raises: NatsUnusable."""
        subject = self._names.key_subject(bucket, key)
        if value is not None:
            await self._connection.publish(subject, value)
            return
        gone = {"KV-Operation": "DEL", "Nats-TTL": f"{MARKER_SECONDS}s"}
        await self._connection.publish(subject, b"", gone)

    async def all(self, bucket: Bucket) -> Mapping[str, bytes]:
        """Return the stored values by key. Raises: NatsUnusable."""
        found: dict[str, bytes] = {}
        with self._asking():
            store = await self._js.key_value(self._names.bucket(bucket))
            watcher = await store.watchall(ignore_deletes=True)
            try:
                async for entry in watcher:
                    if entry is None:
                        break
                    found[entry.key] = entry.value or b""
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]
        return found

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except NatsUnusable:
            raise
        except (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError) as error:
            raise self._no_jetstream("a server without JetStream") from error
        except nats.js.errors.APIError as error:
            raise self._no_jetstream(error.description or str(error)) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise unreachable(self._connection.target, error) from error

    def _no_jetstream(self, found: str) -> JetStreamMissing:
        return JetStreamMissing(
            self._where,
            "JetStream, for the server and for the account",
            found,
            "add `jetstream { store_dir: ... }` to the server, and `jetstream: enabled` to the account",
        )
