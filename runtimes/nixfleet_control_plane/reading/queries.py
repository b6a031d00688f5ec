"""The read port of a store: what operators ask of committed data. Protocol and errors.

The HTTP surface knows this and no database. Each call sees committed data of one moment, and holds up no commit.
Source: docs/spec/wire.md, Operator calls; docs/spec/runtimes.md, The kernel both sides share.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.rebuild import ChainReport, ViewsReport
from nixfleet_control_plane.history.retention.log_start import LogStart
from nixfleet_control_plane.messages.log_entry import LoggedEntry, LogRow
from nixfleet_control_plane.store.queries import ALL, LastCommands, Quarantined, Waiting
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord


class NotReadable(NixfleetError):
    """Committed data cannot be read at the moment. Attributes: `where`, `problem`."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        named = self.problem if self.where in self.problem else f"{self.where}: {self.problem}"
        return f"cannot be read: {named}"


class Queries(Protocol):
    """Reads committed data. Many tasks may ask at the same time. Every call raises: NotReadable."""

    async def rollouts(self, *, after_seq: int = 0, limit: int = ALL) -> tuple[RolloutRecord, ...]:
        """Return the records of rollouts opened after log row `after_seq`, oldest first, pruned ones included."""
        ...

    async def hosts(self) -> tuple[HostRolloutState, ...]:
        """Return the host records of rollouts that are not pruned, by the log, ordered by rollout and name."""
        ...

    async def deferrals(
        self, *, after: tuple[str, str] | None = None, limit: int = ALL
    ) -> tuple[Waiting, ...]:
        """Return the held hosts, ordered by rollout and host, after the given rollout and host."""
        ...

    async def quarantines(self) -> tuple[Quarantined, ...]:
        """Return every quarantine, oldest first."""
        ...

    async def log_rows(
        self, rollout_id: str | None, *, after_seq: int, limit: int
    ) -> tuple[LogRow, ...]:
        """Return up to `limit` log rows after `after_seq`, oldest first; of one rollout, if it is given."""
        ...

    async def host_rows(
        self, rollout_id: RolloutId, hostname: str, *, limit: int
    ) -> tuple[LogRow, ...]:
        """Return the latest log rows about a host in a rollout, the newest first. Rows of long ago may be left out."""
        ...

    async def waiting_of(self, hostname: str) -> tuple[Waiting, ...]:
        """Return why a host is held, by rollout, and since when; nothing for one that is not."""
        ...

    async def left_at(self, rollout_id: RolloutId, hostname: str) -> datetime | None:
        """Return when the host left the rollout for the last time; `None` if no row says so."""
        ...

    async def last_commands(self, rows_max: int) -> LastCommands:
        """Return the operator commands among the last `rows_max` log rows."""
        ...

    async def refused_artefacts(self) -> tuple[LoggedEntry, ...]:
        """Return the artefacts refused since the latest one that was put in force, by name."""
        ...

    async def status(self) -> State:
        """Return the state at the end of the log. Reads the whole log. Raises: DamagedRow."""
        ...

    async def head(self) -> int:
        """Return the number of the last row of the log; 0 if it has none."""
        ...

    async def verify(self, noted: Noted = unnoted) -> ChainReport:
        """Return how far the log is as it was written. Reads the whole log. noted: so many more rows were read."""
        ...

    async def log_start(self) -> LogStart:
        """Return where the log begins: `WHOLE`, unless its first rows were exported and dropped."""
        ...

    async def rebuild(
        self, exported: Iterable[LogRow] | None = None, noted: Noted = unnoted
    ) -> ViewsReport:
        """Return where the views differ from those that the log gives. Reads the whole log. Raises: DamagedRow.

        exported: the rows before the first one of the log; without them it begins with the views of `log_start`.
        noted: so many more rows were replayed.
        """
        ...
