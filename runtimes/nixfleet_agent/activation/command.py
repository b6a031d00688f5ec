"""Runs one program to its end or its time-out. The only module that starts processes.

A program gets its own process group, so that its child processes end with it after a time-out or a
cancellation. Its output goes to files, not to pipes: a service that it leaves running inherits them, and
an inherited pipe never reaches its end. The result is a value (`CommandOutcome`); a program that
cannot be started ends as in a shell, with exit code 126 or 127.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

import anyio
import anyio.abc
from attrs import frozen

OUTPUT_TAIL_BYTES_MAX: Final = 4096
EXIT_CODE_TIMED_OUT: Final = 124
_EXIT_CODE_NOT_EXECUTABLE: Final = 126
_EXIT_CODE_NOT_FOUND: Final = 127


@frozen
class CommandOutcome:
    """The result of a program, and the end of its output.

    exit_code: its own; 128 + n when signal n ended it; 124 after a time-out.
    """

    exit_code: int
    stdout_tail: str = ""
    stderr_tail: str = ""
    timed_out: bool = False


class CommandRunner(Protocol):
    """Runs programs of this machine."""

    async def run(self, command: Sequence[str], *, timeout_seconds: float) -> CommandOutcome:
        """Run `command` (no shell) to its end, for at most `timeout_seconds`."""
        ...


@frozen
class ProcessRunner:
    """The `CommandRunner` that starts processes."""

    async def run(self, command: Sequence[str], *, timeout_seconds: float) -> CommandOutcome:
        return await run_command(command, timeout_seconds=timeout_seconds)


async def run_command(
    command: Sequence[str],
    *,
    timeout_seconds: float,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CommandOutcome:
    """Run `command` (no shell) in `cwd` with only `environment`; both default to the caller's.

    After a time-out or a cancellation, its whole process group is killed before this returns.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return _not_started(command[0], error)
        exit_code = await _exit_code_within(process, timeout_seconds)
        return CommandOutcome(
            exit_code=EXIT_CODE_TIMED_OUT if exit_code is None else exit_code,
            stdout_tail=_tail_of(stdout),
            stderr_tail=_tail_of(stderr),
            timed_out=exit_code is None,
        )


async def _exit_code_within(process: anyio.abc.Process, timeout_seconds: float) -> int | None:
    """Return the exit code as in a shell, `None` after a time-out."""
    try:
        with anyio.move_on_after(timeout_seconds):
            code = await process.wait()
            return code if code >= 0 else 128 - code
        return None
    finally:
        await _kill_group(process)


async def _kill_group(process: anyio.abc.Process) -> None:
    """Kill the process group of `process`, unless it has ended."""
    if process.returncode is not None:
        return
    # The group has its leader's number. It may end between the check and the kill.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.wait()


def _not_started(program: str, error: OSError) -> CommandOutcome:
    missing = isinstance(error, FileNotFoundError)
    return CommandOutcome(
        exit_code=_EXIT_CODE_NOT_FOUND if missing else _EXIT_CODE_NOT_EXECUTABLE,
        # Not every event loop's error names the program.
        stderr_tail=f"{program}: {error.strerror}",
    )


def _tail_of(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - OUTPUT_TAIL_BYTES_MAX))
    return output.read(OUTPUT_TAIL_BYTES_MAX).decode(errors="replace")
