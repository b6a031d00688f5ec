"""A control plane in a process of its own, which reports what it has cost so far.

`python -m tests.control_plane.attacked DIRECTORY HEADER_SECONDS`: it prints its port and the rollout in which web-01 is
dispatched, and its `Cost` for each line on its standard input; the end of the input ends it. The keys are those of
`site`.
"""

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from attrs import frozen

from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.open_files import raise_open_file_limit
from nixfleet_proto.ids import RolloutId
from tests.support.served_control_plane import SEED, SEED_VARIABLE, site_with

MEBIBYTE: Final = 1024 * 1024


@frozen
class Cost:
    """What a process has cost. cpu_seconds: processor time. resident_bytes: the most that was resident so far."""

    cpu_seconds: float
    resident_bytes: int

    def since(self, before: "Cost") -> "Cost":
        """Return what was added since `before`."""
        return Cost(
            self.cpu_seconds - before.cpu_seconds, self.resident_bytes - before.resident_bytes
        )


class Attacked:
    """The process, as its attacker sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        port, rollout_id = self._line().split()
        self.port = int(port)
        self.rollout_id = RolloutId(rollout_id)

    def cost(self) -> Cost:
        """Return what it has cost so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        cpu_seconds, resident_bytes = self._line().split()
        return Cost(float(cpu_seconds), int(resident_bytes))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def attacked(directory: Path, header_seconds_max: float) -> Iterator[Attacked]:
    """Run a control plane in a child process until the end of the context, with the usual limits but for this one."""
    arguments = (str(directory), str(header_seconds_max))
    command = (sys.executable, "-m", "tests.control_plane.attacked", *arguments)
    with subprocess.Popen(
        command,
        env={**os.environ, SEED_VARIABLE: SEED.hex()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Attacked(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def _serve(directory: Path, limits: Limits) -> None:
    raise_open_file_limit(10_000)
    async with site_with(directory, limits) as site:
        print(site.port, await site.publish(), flush=True)  # noqa: T201
        gc.collect()
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            used = resource.getrusage(resource.RUSAGE_SELF)
            # In KiB on Linux, in bytes on macOS.
            resident_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            print(used.ru_utime + used.ru_stime, resident_bytes, flush=True)  # noqa: T201


if __name__ == "__main__":
    anyio.run(
        _serve,
        Path(sys.argv[1]),
        Limits(
            header_seconds_max=float(sys.argv[2]),
            keep_alive_seconds=1,
            host_requests_per_second_max=10_000,
            host_events_per_second_max=1_000_000,
        ),
        backend_options={"use_uvloop": True},
    )
