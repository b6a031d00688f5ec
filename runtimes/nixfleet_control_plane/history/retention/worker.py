"""The task that exports and drops what is old, once a day, beside a running control plane.

A step that fails changes nothing, is said once and tried again; hosts notice nothing of it. Rows are dropped only after
the files with them were read back, and whatever a crash left undone is done at the next look.
Source: docs/spec/runtimes.md, Retention; docs/how-to/running-a-control-plane.md, The size of the database.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from attrs import frozen

from nixfleet_control_plane.history.retention.export_file import exported_at
from nixfleet_control_plane.history.retention.exportable import month_of
from nixfleet_control_plane.history.retention.keeper import Exported, KeptRows, LogKeeper
from nixfleet_proto.codec.primitives import format_time
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.visible import visible
from nixfleet_runtime.kernel.write_failures import WritingEnded
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.storage.opening import is_full

RETRY_SECONDS: Final = 3600.0
PAUSE_SECONDS: Final = 0.05
"""Between two portions of rows that are removed, in real time: commits of hosts have their turn."""
_log = logging.getLogger(__name__)


@frozen
class RetentionConfig:
    """`[retention]`. directory: for the exported files. at: the time of day, in UTC."""

    directory: Path
    keep_days: int = 90
    at: time = time(3, 0)


class DirectoryUnusable(NixfleetError):
    """Exported files cannot be written to a directory. Attributes: `directory`, `problem`."""

    def __init__(self, directory: Path, problem: str) -> None:
        super().__init__(directory, problem)
        self.directory = directory
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.directory}: expected a directory that can be written, found {self.problem}; it is not made, "
            "because it may belong to a file system that is not mounted"
        )


class RetentionWorker:
    """Exports whole months that are older than `keep_days` and that nothing live needs, and drops their rows."""

    def __init__(self, config: RetentionConfig, keeper: LogKeeper, clock: Clock) -> None:
        self._config = config
        self._keeper = keeper
        self._clock = clock
        self._kept = KeptRows(1, None)
        self._last_at: datetime | None = None
        self._held_up_by: str | None = None
        self._step = ""
        self._failing_since: datetime | None = None
        self._problem: str | None = None

    @property
    def kept(self) -> KeptRows:
        """Which rows the log had at the last look."""
        return self._kept

    @property
    def last_at(self) -> datetime | None:
        """When rows were exported and dropped last. After a start: when the file that the log continues was written."""
        return self._last_at

    @property
    def failing_since(self) -> datetime | None:
        """Since when looks fail; `None`: the last one did not."""
        return self._failing_since

    def lines(self, head_seq: int) -> Iterator[str]:
        """Yield what strangers may read: no paths, no names, and nothing that a host or an operator said.

        head_seq: of the last row of the log.
        """
        first = self._kept.first_seq
        of = "" if self._kept.oldest_at is None else f", of {format_time(self._kept.oldest_at)}"
        yield f"the log begins at row {first}{of}, and has {head_seq - first + 1} rows"
        need = self._kept.need
        if need is not None and need.kind:
            yield f'retention: the first row that stays is {need.seq}, for {need.kind}: "nixfleet status" names it'
        if self._last_at is not None:
            yield f"retention: last exported at {format_time(self._last_at)}"
        if self._failing_since is not None:
            since = format_time(self._failing_since)
            yield f"retention: FAILING since {since}: {self._step}: the log of the process says why"

    async def run(self) -> None:
        """Look at once, and every day at the time of the configuration; after a failure every hour. Until cancelled.

        At once, because what a crash left is to be finished, and a machine may be off at that time every day.
        Raises: WritingEnded.
        """
        while True:
            await self._attempt()
            due = seconds_until(self._config.at, self._clock.now())
            failing = self._failing_since is not None
            await self._clock.sleep(min(due, RETRY_SECONDS) if failing else due)

    async def look(self) -> None:
        """Export and drop once. Raises: DirectoryUnusable, WorkFailed, WritingEnded, errors of the store."""
        self._step = "the log cannot be read"
        self._kept = await self._keeper.kept()
        self._step = "the directory cannot be used"
        # A file system that does not answer must hold up this task alone.
        await in_abandonable_thread(partial(_require_usable, self._config.directory))
        if self._last_at is None and self._kept.first_seq > 1:
            last_seq = self._kept.first_seq - 1
            self._last_at = await in_abandonable_thread(
                partial(exported_at, self._config.directory, last_seq)
            )
        self._step = "rows cannot be dropped"
        await self._remove()
        before = self._clock.now() - timedelta(days=self._config.keep_days)
        oldest = self._kept.oldest_at
        if oldest is None or month_of(oldest) >= month_of(before):
            return
        self._step = "rows cannot be exported"
        exported = await self._keeper.export(self._config.directory, before)
        self._step = "rows cannot be dropped"
        if exported.start is not None:
            await self._keeper.begin_at(exported.start)
            self._kept = await self._keeper.kept()
            self._last_at = self._clock.now()
            _log.info(
                "retention: exported the rows %d to %d to %s; the log begins at row %d",
                exported.span.first_seq,
                exported.span.last_seq,
                ", ".join(map(str, exported.files)),
                exported.start.first_seq,
            )
            await self._remove()
        self._tell_what_holds_up(exported, before)

    async def _attempt(self) -> None:
        """Look, and note how that went. Raises: WritingEnded."""
        try:
            await self.look()
        except WritingEnded:
            raise
        except (NixfleetError, OSError, sqlite3.Error) as error:
            self._failed(error)
        else:
            self._succeeded()

    async def _remove(self) -> None:
        while True:
            if not await self._keeper.remove():
                return
            await anyio.sleep(PAUSE_SECONDS)

    def _failed(self, error: Exception) -> None:
        is_on_full_disk = isinstance(error, OSError | sqlite3.Error) and is_full(error)
        advice = "; make room" if is_on_full_disk else ""
        problem = visible(f"{error}{advice}")
        if problem != self._problem:
            _log.error(
                "retention: nothing was dropped, and the next try is in an hour: %s", problem
            )
        self._problem = problem
        self._failing_since = self._failing_since or self._clock.now()

    def _succeeded(self) -> None:
        if self._failing_since is not None:
            _log.info("retention: works again, after %s", self._clock.now() - self._failing_since)
        self._problem = self._failing_since = None

    def _tell_what_holds_up(self, exported: Exported, before: datetime) -> None:
        """Log, once for each, what keeps rows that are older than they need to be."""
        oldest = self._kept.oldest_at
        is_held_up = oldest is not None and month_of(oldest) < month_of(before)
        held_up_by = exported.span.needed_by if is_held_up else None
        if held_up_by is not None and held_up_by != self._held_up_by:
            _log.warning(
                "retention: row %d is needed by %s, so no row from the same month on is dropped",
                exported.span.first_needed_seq,
                held_up_by,
            )
        self._held_up_by = held_up_by


def seconds_until(at: time, now: datetime) -> float:
    """Return how long it is until the time of day `at` comes next, in UTC: more than 0, at most a day."""
    due = datetime.combine(now.date(), at, tzinfo=now.tzinfo)
    return (due - now if due > now else due - now + timedelta(days=1)).total_seconds()


def _require_usable(directory: Path) -> None:
    if not directory.is_dir():
        raise DirectoryUnusable(directory, "something else" if directory.exists() else "nothing")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise DirectoryUnusable(directory, "no permission")
