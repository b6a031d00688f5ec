"""The program on a device, in small: it runs what its bucket says, and says so in two others."""

import json
from contextlib import aclosing

from attrs import frozen

from examples.device_fleet.buckets import Bucket


@frozen
class Device:
    """One device. broken: the image that does not start on it."""

    name: str
    desired: Bucket
    states: Bucket
    heartbeats: Bucket
    broken: str = ""

    async def run(self) -> None:
        """Run until cancelled."""
        await self.heartbeats.put(self.name, b"")
        async with aclosing(self.desired.watch()) as entries:
            async for entry in entries:
                if entry.key.startswith(f"{self.name}.") and entry.value is not None:
                    desired = json.loads(entry.value)
                    is_broken = desired["image"] == self.broken
                    state = {
                        "phase": "failed" if is_broken else "running",
                        "generation": desired["generation"],
                        "error": "exit status 1" if is_broken else "",
                    }
                    await self.states.put(f"state.{entry.key}", json.dumps(state).encode())
