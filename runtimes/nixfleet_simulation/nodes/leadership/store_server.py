"""The server of a store that several control planes share: one row with the lease, the log, and sessions.

Each call is one statement: atomic, and in the order in which statements arrive. It does what docs/spec/leadership.md
asks of a store, and what `nixfleet_postgres` does with one statement each.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from attrs import define, frozen

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_proto.errors import NixfleetError
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.control_plane import ControlPlaneDisk

NEVER: Final = -1


class StoreRefused(NixfleetError):
    """Another process has taken the lease since, or the log does not end where the commit begins."""


class StoreWatcher(Protocol):
    """Observes the store, for the judge."""

    def taken(self, process: str, now: float) -> None:
        """The store gave the lease to `process`. now: seconds."""
        ...

    def given_away(self, process: str) -> None:
        """The store took the lease back from `process`, which wanted that."""
        ...

    def durable(self, process: str) -> None:
        """A commit of `process` became durable."""
        ...


@define(eq=False)
class Session:
    """A session of a process. process: its name, which no other process ever has.

    ring: called when it has the doorbell. notify: called when the log has grown. opened_at: when the server took it.
    """

    process: str
    ring: Callable[[], None]
    notify: Callable[[], None]
    opened_at: int = NEVER
    is_over: bool = False


@frozen
class Fence:
    """What a commit compares. epoch: the own one. commits: the number of commits that its log had."""

    epoch: int
    commits: int


class StoreServer:
    """The server. is_up: whether it runs; what was durable stays."""

    def __init__(
        self, agenda: Agenda, disk: ControlPlaneDisk, terms: LeaseTerms, watcher: StoreWatcher
    ) -> None:
        self.is_up = True
        self.disk = disk
        self._agenda = agenda
        self._terms = terms
        self._watcher = watcher
        self._epoch = 0
        self._holder = ""
        self._lease_until = 0
        self._commits = 0
        self._rows: list[LogRow] = []
        self._sessions: list[Session] = []
        self._door: list[Session] = []
        self._ended_at: dict[str, int] = {}

    # Sessions, and the doorbell.

    def connect(self, session: Session) -> None:
        """Take a session."""
        if session.opened_at != NEVER or session.is_over:
            return
        session.opened_at = self._agenda.now
        self._sessions.append(session)
        self._ended_at.pop(session.process, None)

    def wait_at_door(self, session: Session) -> None:
        """Have the session wait for the doorbell; the first that waits has it."""
        if session not in self._door and not session.is_over:
            self._door.append(session)
            if self._door[0] is session:
                session.ring()

    def leave_door(self, session: Session) -> None:
        """Take the session from the door."""
        if session in self._door:
            had_it = self._door[0] is session
            self._door.remove(session)
            if had_it and self._door:
                self._door[0].ring()

    def end(self, session: Session) -> None:
        """End a session, as the server notices that its process is gone."""
        session.is_over = True
        if session in self._sessions:
            self._sessions.remove(session)
            if all(each.process != session.process for each in self._sessions):
                self._ended_at[session.process] = self._agenda.now
        self.leave_door(session)

    def stop(self) -> None:
        """End, and all sessions with it. Who connects later has seen nothing of it."""
        self.is_up = False
        self._door.clear()
        for session in tuple(self._sessions):
            self.end(session)
        self._ended_at.clear()

    def start(self) -> None:
        """Run again."""
        self.is_up = True

    # Statements.

    def look(self, session: Session) -> LeaseSeen:
        """Return the lease. Who looks first is connected from then on."""
        if session.opened_at == NEVER and not session.is_over:
            self.connect(session)
        ended_at = self._ended_at.get(self._holder)
        return LeaseSeen(
            self._epoch,
            self._holder,
            "",
            (self._lease_until - self._agenda.now) / SECOND,
            len(self._rows),
            is_abandoned=ended_at is not None and NEVER < session.opened_at <= ended_at,
        )

    def take(self, session: Session, seen: LeaseSeen) -> Fence | None:
        """Give the lease to the session's process, if it is as `seen`, and free; `None`: it is not."""
        if seen.epoch != self._epoch or not self.look(session).is_free:
            return None
        self._epoch += 1
        self._holder = session.process
        self._renew_lease()
        self._watcher.taken(session.process, self._agenda.now / SECOND)
        return Fence(self._epoch, self._commits)

    def commit(
        self, session: Session, fence: Fence, writes: tuple[Write, ...], keep: Callable[[], None]
    ) -> None:
        """Make `writes` durable. Raises: StoreRefused, DiskFull."""
        self.require(session, fence)
        self._watcher.durable(session.process)
        self.disk.keep_at_once(writes, keep)
        self._commits += 1
        self._rows += (write for write in writes if isinstance(write, LogRow))
        self._renew_lease()
        for each in tuple(self._sessions):
            if each.process != session.process:
                each.notify()

    def require(self, session: Session, fence: Fence) -> None:
        """Compare what a commit must compare. Raises: StoreRefused."""
        if (fence.epoch, fence.commits) != (self._epoch, self._commits):
            raise StoreRefused

    def raise_own_epoch(self, session: Session) -> Fence:
        """Raise the epoch of the session's process, so that nothing it sent before can become durable any more.

        Raises: StoreRefused, if another one has the lease.
        """
        if self._holder != session.process:
            raise StoreRefused
        self._epoch += 1
        self._renew_lease()
        return Fence(self._epoch, self._commits)

    def renew(self, session: Session) -> None:
        """Renew the lease. Raises: StoreRefused."""
        if self._holder != session.process:
            raise StoreRefused
        self._renew_lease()

    def hand_over(self, session: Session) -> None:
        """End the lease, if the session's process still has it."""
        if self._holder == session.process:
            self._epoch += 1
            self._holder = ""
            self._lease_until = 0
            self._watcher.given_away(session.process)

    def snapshot(self) -> tuple[State, int]:
        """Return the state of everything durable, as the production code loads it, and the number of rows in it."""
        return load_state(self.disk.reopened()), len(self._rows)

    def rows_after(self, count: int) -> Sequence[LogRow]:
        """Return the rows after the first `count`."""
        return self._rows[count:]

    def _renew_lease(self) -> None:
        self._lease_until = self._agenda.now + int(self._terms.seconds * SECOND)
