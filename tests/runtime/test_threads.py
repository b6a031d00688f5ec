"""Blocking work in threads that can be left behind."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from nixfleet_runtime.process.threads import in_abandonable_thread

PATIENCE_SECONDS = 30

ABANDON = """
import sys
from pathlib import Path
import anyio
from nixfleet_runtime.process.threads import in_abandonable_thread

async def main():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_abandonable_thread, Path(sys.argv[1]).read_bytes)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

anyio.run(main)
print("ended", flush=True)
"""


@pytest.mark.anyio
async def test_result_of_the_work_is_returned() -> None:
    """The work runs in another thread, and its result comes back."""
    assert await in_abandonable_thread(threading.get_ident) != threading.get_ident()


@pytest.mark.anyio
async def test_error_of_the_work_is_raised() -> None:
    """The caller gets the very error."""

    def fail() -> None:
        raise FileNotFoundError("no such file")

    with pytest.raises(FileNotFoundError, match="no such file"):
        await in_abandonable_thread(fail)


@pytest.mark.anyio
async def test_cancellation_does_not_wait_for_the_work() -> None:
    """A cancelled call returns while its thread still waits."""
    released = threading.Event()
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_abandonable_thread, released.wait)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    released.set()


def test_process_ends_though_an_abandoned_thread_waits_for_ever(tmp_path: Path) -> None:
    """The interpreter exits with a thread that reads from a named pipe nobody writes to."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    ended = subprocess.run(
        [sys.executable, "-c", ABANDON, pipe],
        stdout=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (0, b"ended\n")
