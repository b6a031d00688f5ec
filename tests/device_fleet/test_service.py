"""The device fleet as a whole: its tasks around the kernel, and what a crash or an outage leaves."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from examples.device_fleet.buckets import Entries
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
    DeploymentRemoved,
    DeviceId,
    Fleet,
)
from examples.device_fleet.ports import EnrollmentIntent
from examples.device_fleet.service import RETRY_SECONDS, DeviceFleet, EffectRunner
from nixfleet import FrozenMap
from nixfleet_runtime.kernel.clock import FakeClock

pytestmark = pytest.mark.anyio

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
APP = DeploymentName("app")
TILLS = FrozenMap({"kind": "till"})
KINDS = {"till-01": "till", "till-02": "till", "camera-01": "camera"}


class BreakableBucket(MemoryBucket):
    """A bucket that cannot be reached while `is_broken`. refused: how often it was asked in vain."""

    is_broken = False
    refused = 0

    async def put(self, key: str, value: bytes) -> None:
        self._require_reachable()
        await super().put(key, value)

    async def watch(self) -> Entries:
        async with aclosing(super().watch()) as entries:
            async for entry in entries:
                self._require_reachable()
                yield entry

    def _require_reachable(self) -> None:
        if self.is_broken:
            self.refused += 1
            raise ConnectionError("no responders")


class World:
    """Four buckets that outlive every process, and a directory."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock(START)
        self.info, self.desired, self.states = (BreakableBucket(self.clock) for _ in range(3))
        self.heartbeats = MemoryBucket(self.clock, ttl=HEARTBEAT_TTL)
        self.directory = directory
        self.reported: dict[DeploymentName, Counters] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DeviceFleet]:
        """Run one process of the fleet's operator; at the end it is killed."""
        labels = {DeviceId(name): FrozenMap({"kind": kind}) for name, kind in KINDS.items()}
        token_hash = sha256(b"secret").digest()
        expected = {device: Expected(token_hash, each) for device, each in labels.items()}
        log = FactLog(self.directory / "facts")
        fleet = DeviceFleet(
            log,
            BucketRegistry(self.info),
            BucketConsumer(self.states, self.heartbeats),
            TokenIdentities(expected),
            EffectRunner(BucketPublisher(self.desired), self.reported.__setitem__),
            self.clock,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.run)
            yield fleet
            tasks.cancel_scope.cancel()
        log.close()

    async def published(self) -> dict[str, str]:
        """Return the image that each device reads, by its key."""
        count, published = len(await self.desired.keys()), dict[str, str]()
        async with aclosing(self.desired.watch()) as entries:
            while len(published) < count:
                entry = await anext(entries)
                if entry.value is not None:
                    published[entry.key] = json.loads(entry.value)["image"]
        return published


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not is_so():
            await anyio.lowlevel.checkpoint()


async def join(fleet: DeviceFleet) -> None:
    for name in KINDS:
        await fleet.enroll(EnrollmentIntent(name, f"the key of {name}", "secret"))


async def test_a_deployment_reaches_the_devices_that_it_selects_and_is_counted(
    tmp_path: Path,
) -> None:
    """Tills run it and say so; a camera reads nothing."""
    world = World(tmp_path)
    async with world.running() as fleet, anyio.create_task_group() as tasks:
        await join(fleet)
        for name in KINDS:
            broken = "app:1" if name == "till-02" else ""
            device = Device(name, world.desired, world.states, world.heartbeats, broken)
            tasks.start_soon(device.run)
        await fleet.post(DeploymentDeclared(APP, "app:1", TILLS))
        await until(lambda: world.reported.get(APP) == Counters(running=1, failed=1))
        assert await world.published() == {"till-01.app": "app:1", "till-02.app": "app:1"}
        tasks.cancel_scope.cancel()


async def test_a_device_is_online_until_a_minute_after_its_heartbeat(tmp_path: Path) -> None:
    """It counts when the bucket took the heartbeat, not what the device's clock says."""
    world = World(tmp_path)
    till = DeviceId("till-01")
    async with world.running() as fleet:
        await world.heartbeats.put(till, b"")
        seen: list[Fleet] = []

        async def look() -> None:
            seen.append(await fleet.post(DeploymentRemoved(APP)))

        with anyio.fail_after(10):
            while not seen or till not in seen[-1].heartbeats:
                await look()
    assert seen[-1].is_online(till, START + timedelta(seconds=59))
    assert not seen[-1].is_online(till, START + timedelta(seconds=60))


async def test_a_start_does_what_a_killed_process_had_decided_and_not_done(tmp_path: Path) -> None:
    """Between the commit and the effect lies a crash; what is selected no longer is withdrawn too."""
    world = World(tmp_path)
    async with world.running() as fleet:
        await join(fleet)
        await fleet.post(DeploymentDeclared(APP, "app:1", TILLS))
        await until(lambda: world.reported.get(APP) == Counters(pending=2))
        world.desired.is_broken = True
        await fleet.post(DeploymentDeclared(APP, "app:2", FrozenMap({"kind": "camera"})))
        await until(lambda: world.desired.refused > 0)
    world.desired.is_broken = False
    async with world.running():
        await until(lambda: world.reported[APP] == Counters(pending=1))
        assert await world.published() == {"camera-01.app": "app:2"}


async def test_an_effect_is_tried_again_until_it_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """NATS may be away for a while; facts are taken meanwhile, and effects keep their order."""
    world = World(tmp_path)
    caplog.set_level(logging.CRITICAL)
    async with world.running() as fleet:
        await join(fleet)
        world.desired.is_broken = True
        await fleet.post(DeploymentDeclared(APP, "app:1", FrozenMap()))
        await fleet.post(DeploymentDeclared(APP, "app:2", FrozenMap()))
        await until(lambda: world.desired.refused > 0)
        assert APP not in world.reported or world.reported[APP] == Counters()
        world.desired.is_broken = False
        await anyio.wait_all_tasks_blocked()
        world.clock.advance(RETRY_SECONDS)
        await until(lambda: world.reported.get(APP) == Counters(pending=3))
        await anyio.wait_all_tasks_blocked()
        assert set((await world.published()).values()) == {"app:2"}


async def test_a_watch_that_breaks_begins_anew(tmp_path: Path) -> None:
    """What was said meanwhile is not missed."""
    world = World(tmp_path)
    async with world.running() as fleet:
        await join(fleet)
        await fleet.post(DeploymentDeclared(APP, "app:1", TILLS))
        world.states.is_broken = True
        said = json.dumps({"phase": "running", "generation": 1, "error": ""}).encode()
        await MemoryBucket.put(world.states, "state.till-01.app", said)
        await until(lambda: world.states.refused > 0)
        world.states.is_broken = False
        await anyio.wait_all_tasks_blocked()
        world.clock.advance(RETRY_SECONDS)
        await until(lambda: world.reported.get(APP) == Counters(pending=1, running=1))


async def test_an_entry_that_is_not_well_formed_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One device cannot keep the fleet from hearing the others, and its text is shown escaped."""
    world = World(tmp_path)
    async with world.running() as fleet:
        await join(fleet)
        await fleet.post(DeploymentDeclared(APP, "app:1", TILLS))
        await world.states.put("state.till-01.app\n", b"\xff")
        said = json.dumps({"phase": "running", "generation": 1, "error": ""}).encode()
        await world.states.put("state.till-02.app", said)
        await until(lambda: world.reported.get(APP) == Counters(pending=1, running=1))
    assert "'state.till-01.app\\n' is skipped" in caplog.text
