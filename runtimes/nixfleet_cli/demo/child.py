"""One `nixfleet` process that can be stopped, killed and started again. What it says goes to a file."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.abc

from nixfleet_cli.demo.watch import WentWrong

ENDING_SECONDS_MAX: Final = 20.0
READY_SECONDS_MAX: Final = 60.0
_LOOKED_EVERY_SECONDS: Final = 0.02


class Child:
    """A process that runs `nixfleet` with `arguments`, again and again.

    log: all that any of them said. ready: the pattern of what it says when it works.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path, ready: str) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._ready = ready
        self._said_before = 0
        self._process: anyio.abc.Process | None = None

    @property
    def pid(self) -> int:
        """The number of the process that runs now."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it ended without being asked to."""
        return self._process is not None and self._process.returncode is not None

    async def start(self) -> None:
        """Begin another process. The one before has ended."""
        assert self._process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._said_before = log.tell()
            self._process = await anyio.open_process(
                [sys.executable, "-m", "nixfleet_cli", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # An interruption is for who plays the demonstration, who then stops its children in order.
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Return when the process that was started last works.

        Raises: WentWrong, as `said` does.
        """
        await self.said(self._ready)

    async def start_and_wait(self) -> None:
        """Begin another process, and return when it works.

        Raises: WentWrong, as `said` does.
        """
        await self.start()
        await self.ready()

    async def said(self, pattern: str) -> None:
        """Return when the process that was started last has said what matches `pattern`.

        Raises: WentWrong, when the process ends before, or takes too long.
        """
        with anyio.move_on_after(READY_SECONDS_MAX):
            while True:
                if re.search(pattern, self._told()) is not None:
                    return
                if self.has_ended:
                    break
                await anyio.sleep(_LOOKED_EVERY_SECONDS)
        raise WentWrong((f"{self.name}: expected {pattern!r}, found {self._told()!r}",))

    def _told(self) -> str:
        return self.log.read_bytes()[self._said_before :].decode(errors="replace")

    async def kill(self) -> None:
        """End it as a loss of power would: at once, without a word."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end, and return its exit code. Does nothing when it does not run."""
        return await self._end(signal.SIGTERM) if self._process is not None else 0

    def make_sure_it_ended(self) -> None:
        """Kill it if it runs, without waiting for it: for those who leave and do not look back."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None, f"{self.name} does not run"
        if process.returncode is None:
            process.send_signal(how)
        with anyio.CancelScope(shield=True), anyio.move_on_after(ENDING_SECONDS_MAX):
            return await process.wait()
        process.kill()
        raise WentWrong((f"{self.name}: expected it to end within {ENDING_SECONDS_MAX} s",))
