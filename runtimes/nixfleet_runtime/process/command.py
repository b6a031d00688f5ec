"""Runs one program to its end or its time-out. The services start programs here, and nowhere else.

A program gets its own session. However it ends, whatever is left in its session is killed: only what has left it, as a
service manager's services do, stays. Of its output the last bytes are kept and the rest is dropped, so that a program
that writes for ever costs neither memory nor disk; beyond a limit it is killed. Its output pipes are closed with its
end: a service that it leaves behind must write elsewhere. Files instead of pipes were rejected, because such a service
would fill the disk.

The result is a value (`CommandOutcome`); a program that cannot be started ends as in a shell, with exit code 126 or
127.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Protocol

import anyio
import anyio.abc
from attrs import frozen

OUTPUT_TAIL_BYTES_MAX: Final = 4096
OUTPUT_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much a program may write to each of its two outputs before it is killed."""
EXIT_CODE_TIMED_OUT: Final = 124
EXIT_CODE_NOT_EXECUTABLE: Final = 126
EXIT_CODE_NOT_FOUND: Final = 127
_READ_BYTES: Final = 64 * 1024
# What a service manager tells the agent alone: a child that takes it for its own speaks for the agent.
_OF_SERVICE_MANAGER: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS"}
)
# A pipe holds no more, so this is all that a program wrote before its end.
_PIPE_BYTES_MAX: Final = 1024 * 1024


@frozen
class CommandOutcome:
    """The result of a program, and the end of its output.

    exit_code: its own; 128 + n when signal n ended it; 124 after a time-out.
    wrote_too_much: whether it was killed for more output than it may write. was_not_started: there was no process.
    is_stdout_utf8: whether the bytes of `stdout_tail` are; in place of those that are not, it has U+FFFD.
    """

    exit_code: int
    stdout_tail: str = ""
    stderr_tail: str = ""
    timed_out: bool = False
    wrote_too_much: bool = False
    was_not_started: bool = False
    is_stdout_utf8: bool = True


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
    output_bytes_max: int = OUTPUT_BYTES_MAX,
    stdin: bytes | None = None,
) -> CommandOutcome:
    """Run `command` (no shell) in `cwd` with only `environment`; both default to the caller's.

    output_bytes_max: how much it may write to each of its outputs before it is killed.
    stdin: what it can read; nothing by default.

    When this returns or is cancelled, nothing of its session runs any more.
    """
    with ExitStack() as held:
        try:
            stdout = held.enter_context(closing(_Output(output_bytes_max)))
            stderr = held.enter_context(closing(_Output(output_bytes_max)))
            input_file = held.enter_context(_readable(stdin))
        except OSError as error:
            # No room for its input, or no descriptors for its pipes.
            problem = f"{command[0]}: {error}"
            return CommandOutcome(EXIT_CODE_NOT_EXECUTABLE, "", problem, was_not_started=True)
        try:
            process = await anyio.open_process(
                command,
                stdin=input_file,
                stdout=stdout.write_end,
                stderr=stderr.write_end,
                cwd=cwd,
                env=_own_environment() if environment is None else environment,
                start_new_session=True,
            )
        except OSError as error:
            return _not_started(command[0], error)
        except ValueError as error:
            # A NUL, which no argument and no variable of a process can have.
            return CommandOutcome(
                EXIT_CODE_NOT_EXECUTABLE, "", f"{command[0]}: {error}", was_not_started=True
            )
        stdout.begin()
        stderr.begin()
        timed_out = await _wait(process, (stdout, stderr), timeout_seconds)
        assert process.returncode is not None
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        stdout_tail, stderr_tail = stdout.tail(), stderr.tail()
        return CommandOutcome(
            exit_code=EXIT_CODE_TIMED_OUT if timed_out else code,
            stdout_tail=_text(stdout_tail),
            stderr_tail=_text(stderr_tail),
            timed_out=timed_out,
            wrote_too_much=stdout.is_over or stderr.is_over,
            is_stdout_utf8=_is_utf8(stdout_tail),
        )


@contextmanager
def _readable(content: bytes | None) -> Iterator[int]:
    """Yield a descriptor from which `content` can be read: of a file, since a pipe that is not read would block."""
    if content is None:
        yield subprocess.DEVNULL
        return
    with TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _own_environment() -> dict[str, str]:
    return {name: it for name, it in os.environ.items() if name not in _OF_SERVICE_MANAGER}


async def _wait(
    process: anyio.abc.Process, outputs: Sequence["_Output"], timeout_seconds: float
) -> bool:
    """Wait until the program has ended or was killed, and its session with it. Return whether it timed out."""
    try:
        with anyio.move_on_after(timeout_seconds) as in_time:
            async with anyio.create_task_group() as reading:
                for output in outputs:
                    reading.start_soon(output.read, reading.cancel_scope.cancel)
                await process.wait()
                reading.cancel_scope.cancel()
        return in_time.cancelled_caught
    finally:
        await _kill_session(process)


async def _kill_session(process: anyio.abc.Process) -> None:
    """Kill the session that `process` began, all of it, and return when `process` has ended."""
    # Its number stays taken while anything of its group is left. With nothing left there is nothing to kill, and the
    # number was free for moments only.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.CancelScope(shield=True):
        await process.wait()
    # A shell with job control gives each job a group of its own. Killing is repeated for what was forked meanwhile.
    killed: set[int] = set()
    while found := set(_processes_of_session(process.pid)) - killed:
        for number in found:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        killed |= found


def _processes_of_session(session: int) -> Iterator[int]:
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        return  # not Linux: only the group is known
    for name in names:
        if name.isdecimal():
            with suppress(OSError):
                if os.getsid(int(name)) == session:
                    yield int(name)


class _Output:
    """The reading end of a pipe that a program writes to: counts all of it, and keeps the end."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._count = 0
        self._tail = b""

    @property
    def is_over(self) -> bool:
        """Whether more was written than a program may write."""
        return self._count > self._bytes_max

    def begin(self) -> None:
        """Close the writing end, which the program has now."""
        os.close(self.write_end)
        self.write_end = -1

    async def read(self, when_over: Callable[[], None]) -> None:
        """Read until the end or the limit; call `when_over` at the limit."""
        while not self.is_over:
            await anyio.wait_readable(self._read_end)
            if not self._take():
                return
        when_over()

    def tail(self) -> bytes:
        """Return the end of what was written before the program's end. It no longer runs."""
        left = _PIPE_BYTES_MAX
        with suppress(BlockingIOError):
            # Something that left the session may still write: only so much is read.
            while left > 0 and (taken := self._take()):
                left -= taken
        return self._tail

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read_end)
        if self.write_end >= 0:
            os.close(self.write_end)

    def _take(self) -> int:
        """Take what is there, and return how much that was; 0 at the end. Raises: BlockingIOError."""
        chunk = os.read(self._read_end, _READ_BYTES)
        self._count += len(chunk)
        self._tail = (self._tail + chunk[-OUTPUT_TAIL_BYTES_MAX:])[-OUTPUT_TAIL_BYTES_MAX:]
        return len(chunk)


def _text(tail: bytes) -> str:
    return tail.decode(errors="replace")


def _is_utf8(tail: bytes) -> bool:
    try:
        tail.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_started(program: str, error: OSError) -> CommandOutcome:
    missing = isinstance(error, FileNotFoundError)
    return CommandOutcome(
        exit_code=EXIT_CODE_NOT_FOUND if missing else EXIT_CODE_NOT_EXECUTABLE,
        # Not every event loop's error names the program.
        stderr_tail=f"{program}: {error.strerror}",
        was_not_started=True,
    )
