"""Work in a process of its own: its result and its errors come back, and it ends when it is not waited for any more."""

import os
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from nixfleet_runtime.process.own_process import WorkFailed, in_own_process

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
WITHIN_SECONDS = 30


def number_of_this_process(more: int) -> int:
    return os.getpid() + more


def fail() -> None:
    raise FileNotFoundError("expected a directory at /archive")


def end() -> None:
    os._exit(3)


def say_who_and_hang(path: Path) -> None:
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(600)


@BACKENDS
def test_the_result_comes_from_another_process(backend: str) -> None:
    """Arguments go there, and what the function returns comes back."""

    async def ask() -> int:
        return await in_own_process(number_of_this_process, 0)

    assert anyio.run(ask, backend=backend) != os.getpid()


@BACKENDS
@pytest.mark.parametrize(
    ("work", "told"), [(fail, "expected a directory at /archive"), (end, "process.*ended")]
)
def test_an_error_is_told_in_words(backend: str, work: object, told: str) -> None:
    """Also that the process ended without one, as when it is killed because memory is short."""

    async def ask() -> None:
        await in_own_process(work)  # type: ignore[arg-type]

    with pytest.raises(WorkFailed, match=told):
        anyio.run(ask, backend=backend)


@BACKENDS
def test_a_cancellation_ends_the_process(backend: str, tmp_path: Path) -> None:
    """At once: a service that stops does not wait for it."""
    told = tmp_path / "number"

    async def ask() -> None:
        with anyio.fail_after(WITHIN_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_own_process, say_who_and_hang, told)
                while not await anyio.Path(told).exists():
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            while _runs(int(await anyio.Path(told).read_text())):
                await anyio.lowlevel.checkpoint()

    anyio.run(ask, backend=backend)


def _runs(number: int) -> bool:
    """Whether the process is there, and not only left for its parent to take note of."""
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
