"""Follows a trust file while a process runs: a changed file is read at SIGHUP, and within `POLL_SECONDS`.

A file that cannot be read or decoded changes nothing: the keys that are in force stay in force. It is logged once.
Source: docs/spec/trust.md, Trust file.
"""

import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from nixfleet_proto.codec import DecodeError, decode_trust_root
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.storage.regular_file import read_regular_file

POLL_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)


class TrustFile:
    """A trust file, and the root that was last read from it. use: called with each new root."""

    def __init__(self, path: Path, in_force: TrustRoot, use: Callable[[TrustRoot], None]) -> None:
        self._path = path
        self._in_force = in_force
        self._use = use
        self._problem: str | None = None

    async def follow(
        self, sleep: Callable[[float], Awaitable[None]] = anyio.sleep, seconds: float = POLL_SECONDS
    ) -> None:
        """Read the file at every SIGHUP and every `seconds`, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._at_signals)
            while True:
                await sleep(seconds)
                await self.look()

    async def look(self) -> None:
        """Read the file now, and use the root if it is another one."""
        try:
            content = await anyio.to_thread.run_sync(read_regular_file, self._path)
            root = decode_trust_root(content)
        except (OSError, DecodeError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error("%s: the trust in force is kept: %s", self._path, error)
            return
        self._problem = None
        if root != self._in_force:
            self._in_force = root
            self._use(root)
            _log.info("%s: changed, and in force", self._path)

    async def _at_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                _log.info("SIGHUP: reading %s", self._path)
                await self.look()
