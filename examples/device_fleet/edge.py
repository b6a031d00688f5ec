"""The edge: the ports over four buckets. Keys and bytes become resolved types here, and nowhere else.

What a device wrote is the text of a stranger. An entry that is not well formed is skipped with a warning.
"""

import json
import logging
import re
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from typing import Final, TypeVar

from attrs import frozen

from examples.device_fleet.buckets import Bucket, Entry
from examples.device_fleet.model import (
    Deployment,
    DeploymentName,
    DeviceId,
    DeviceRegistered,
    DeviceRemoved,
    HeartbeatReceived,
    Pair,
    Phase,
    StateObserved,
)
from examples.device_fleet.ports import DeviceCredential
from nixfleet import FrozenMap

HEARTBEAT_BYTES_MAX: Final = 95
STATE_BYTES_MAX: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_logger = logging.getLogger(__name__)
FactT = TypeVar("FactT")


@frozen
class BucketRegistry:
    """The registry in `device-info`: key `<device>`."""

    info: Bucket

    async def register(self, credential: DeviceCredential) -> None:
        info = {"labels": dict(credential.labels), "publicKey": credential.public_key}
        await self.info.put(credential.device, json.dumps(info).encode())

    def changes(self) -> AsyncGenerator[DeviceRegistered | DeviceRemoved, None]:
        return _resolved(self.info, decode_device_info)


@frozen
class BucketPublisher:
    """What devices are to run in `desired-state`: key `<device>.<deployment>`."""

    desired: Bucket

    async def publish(self, pair: Pair, deployment: Deployment) -> None:
        desired = {"image": deployment.image, "generation": deployment.generation}
        await self.desired.put(".".join(pair), json.dumps(desired).encode())

    async def withdraw(self, pair: Pair) -> None:
        await self.desired.delete(".".join(pair))

    async def published(self) -> Collection[Pair]:
        return [pair_of(key) for key in await self.desired.keys()]


@frozen
class BucketConsumer:
    """What devices say in `device-state`, key `state.<device>.<deployment>`, and `device-heartbeat`, key `<device>`."""

    said: Bucket
    beats: Bucket

    def states(self) -> AsyncGenerator[StateObserved, None]:
        return _resolved(self.said, decode_state)

    def heartbeats(self) -> AsyncGenerator[HeartbeatReceived, None]:
        return _resolved(self.beats, decode_heartbeat)


async def _resolved(
    bucket: Bucket, decode: Callable[[Entry], FactT]
) -> AsyncGenerator[FactT, None]:
    async with aclosing(bucket.watch()) as entries:
        async for entry in entries:
            try:
                fact = decode(entry)
            except (ValueError, RecursionError) as error:
                _logger.warning("%.200r is skipped: %s", entry.key, error)
            else:
                yield fact


def decode_device_info(entry: Entry) -> DeviceRegistered | DeviceRemoved:
    """Return the fact. Raises: ValueError."""
    device = DeviceId(name_of(entry.key))
    if entry.value is None:
        return DeviceRemoved(device)
    match json.loads(entry.value):
        case {"labels": dict(labels)} if all(isinstance(label, str) for label in labels.values()):
            return DeviceRegistered(device, FrozenMap(labels))
        case _:
            raise ValueError("expected labels")


def decode_state(entry: Entry) -> StateObserved:
    """Return the fact; a deleted entry: the device runs nothing. Raises: ValueError, RecursionError."""
    prefix, _, key = entry.key.partition(".")
    if prefix != "state":
        raise ValueError("expected state.<device>.<deployment>")
    if entry.value is None:
        return StateObserved(pair_of(key), Phase.PENDING, 0, entry.revision)
    match json.loads(_bounded(entry.value, STATE_BYTES_MAX)):
        case {"phase": str(phase), "generation": int(generation), "error": str(error)}:
            return StateObserved(pair_of(key), Phase(phase), generation, entry.revision, error)
        case _:
            raise ValueError("expected phase, generation and error")


def decode_heartbeat(entry: Entry) -> HeartbeatReceived:
    """Return the fact: that the bucket took an entry, and when. Its bytes say nothing. Raises: ValueError."""
    if entry.value is None:
        raise ValueError("expected a heartbeat, found that one was deleted")
    _bounded(entry.value, HEARTBEAT_BYTES_MAX)
    return HeartbeatReceived(DeviceId(name_of(entry.key)), entry.at)


def pair_of(key: str) -> Pair:
    """Return the device and the deployment of `<device>.<deployment>`. Raises: ValueError."""
    device, _, deployment = key.partition(".")
    return Pair(DeviceId(name_of(device)), DeploymentName(name_of(deployment)))


def name_of(text: str) -> str:
    """Return `text`, which is a name as in DNS, so it can be part of a key. Raises: ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError("expected a name: a-z, 0-9 and -, at most 63 characters")
    return text


def _bounded(value: bytes, length_max: int) -> bytes:
    if len(value) > length_max:
        raise ValueError(f"expected at most {length_max} bytes, found {len(value)}")
    return value
