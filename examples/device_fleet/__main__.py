"""Two tills and a camera, and an app for tills, all in this process: `python -m examples.device_fleet`."""

import math
import tempfile
from hashlib import sha256
from pathlib import Path

import anyio

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
from examples.device_fleet.ports import EnrollmentIntent
from examples.device_fleet.service import DeviceFleet, EffectRunner
from nixfleet import FrozenMap
from nixfleet_runtime.kernel.clock import SystemClock

DEVICES = {"till-01": "till", "till-02": "till", "camera-01": "camera"}
TILL_APP = DeploymentName("till-app")


async def main() -> None:
    clock = SystemClock()
    info, desired, states = (MemoryBucket(clock) for _ in range(3))
    heartbeats = MemoryBucket(clock, ttl=HEARTBEAT_TTL)
    expected = {
        DeviceId(name): Expected(sha256(b"secret").digest(), FrozenMap({"kind": kind}))
        for name, kind in DEVICES.items()
    }
    reports, reported = anyio.create_memory_object_stream[Counters](math.inf)
    with tempfile.TemporaryDirectory() as directory:
        fleet = DeviceFleet(
            FactLog(Path(directory) / "facts"),
            BucketRegistry(info),
            BucketConsumer(states, heartbeats),
            TokenIdentities(expected),
            EffectRunner(
                BucketPublisher(desired), lambda _, counters: reports.send_nowait(counters)
            ),
            clock,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fleet.run)
            for name in DEVICES:
                await fleet.enroll(EnrollmentIntent(name, f"the key of {name}", "secret"))
                broken = "till-app:2" if name == "till-02" else ""
                tasks.start_soon(Device(name, desired, states, heartbeats, broken).run)
            for image in ("till-app:1", "till-app:2"):
                await fleet.post(DeploymentDeclared(TILL_APP, image, FrozenMap({"kind": "till"})))
                async for counters in reported:
                    if counters.running + counters.failed == 2 and not counters.pending:
                        print(f"{image}: {counters.running} running, {counters.failed} failed")
                        break
            print("in desired-state:", *sorted(await desired.keys()))
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
