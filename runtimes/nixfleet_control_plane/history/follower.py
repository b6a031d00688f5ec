"""Follows a log: the state after it, and what each entry changed. Decides and writes nothing.

Entries are replayed by the control plane's own code (`entry_handlers.replayed`), so the result cannot differ from the
control plane's state. A log that grows can be followed further.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replayed
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.retention.log_start import (
    WHOLE,
    LogStart,
    log_start,
    state_at,
    views_at,
)
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    Entry,
    FactRefused,
    FactReported,
    FactsReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    Line,
    LoggedEntry,
    LoggedLine,
    LogRow,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_control_plane.store.tables import Tables
from nixfleet_proto.agent_event import ProbeResult
from nixfleet_runtime.fact_words import is_routine
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.rollout.event import subject_of
from nixfleet_state_machine.rollout.state import RolloutRecord

Subject: TypeAlias = HostRolloutState | RolloutRecord | None
"""The record that an entry can change; `None` if it changes none."""


@frozen
class AppliedEntry:
    """A line that was applied to the state: the host and rollout its row names, its record before and after it.

    quarantined: channels and closures that the entry barred; a quarantine has no row of its own.
    """

    logged: LoggedLine
    host_id: str | None
    rollout_id: str | None
    before: Subject
    after: Subject
    quarantined: tuple[tuple[str, str], ...] = ()

    @property
    def state_before(self) -> str:
        return "" if self.before is None else self.before.state.value

    @property
    def state_after(self) -> str:
        return "" if self.after is None else self.after.state.value

    @property
    def is_move(self) -> bool:
        """Whether the entry changed the state of a host, or the state or wave of a rollout."""
        return (self.state_before, _wave_of(self.before)) != (
            self.state_after,
            _wave_of(self.after),
        )

    @property
    def is_routine(self) -> bool:
        """Whether the entry only repeats a known result of a probe."""
        entry = self.logged.entry
        if not isinstance(entry, FactReported):
            return False
        fact = entry.fact
        known = None
        if isinstance(fact, ProbeResult) and isinstance(self.before, HostRolloutState):
            probe = self.before.probes.get(fact.probe_name)
            known = None if probe is None else probe.status
        return is_routine(fact, known)


class Replay:
    """The state after the rows that were taken so far. `state` is read-only.

    start: where the log begins; by default at its first row.
    """

    def __init__(self, start: LogStart = WHOLE) -> None:
        with closing(views_at(start)) as views:
            self.state = state_at(start, views)

    def take(self, row: LogRow) -> Iterator[AppliedEntry]:
        """Yield the lines of the next row, each right after it was applied to the state.

        Raises: DamagedRow, also for a row after a gap.
        """
        expected_seq = self.state.head_seq + 1
        if row.seq != expected_seq:
            raise DamagedRow(row.seq, row.kind, f"expected row {expected_seq} here")
        logged = entry_of(row)
        before, barred = _subject(self.state, logged.entry), _barred(self.state)
        applied = self._applied(row, logged)
        while (line := next(applied, None)) is not None:
            after, barred_after = _subject(self.state, logged.entry), _barred(self.state)
            quarantined = tuple(sorted(barred_after - barred))
            yield AppliedEntry(
                LoggedLine(logged.seq, logged.at, line),
                row.host_id,
                row.rollout_id,
                before,
                after,
                quarantined,
            )
            before, barred = after, barred_after

    def _applied(self, row: LogRow, logged: LoggedEntry) -> Iterator[Line]:
        """Yield what a row says, each line right after it was applied."""
        try:
            yield from replayed(self.state, CommitBuilder(), logged)
        except Exception as error:
            problem = f"the entry does not apply at its position: {error!r}"
            raise DamagedRow(row.seq, row.kind, problem) from error
        self.state.undo.settle()


class Follower(Replay):
    """A control plane's state at the end of its database's log, as far as it was read. `state` is read-only."""

    def __init__(self, connection: Tables) -> None:
        super().__init__(log_start(connection))
        self._connection = connection

    def catch_up(self) -> Iterator[AppliedEntry]:
        """Yield the lines not read yet, each right after it was applied to the state.

        Raises: DamagedRow, also for a row after a gap.
        """
        for row in read_log(self._connection, self.state.head_seq):
            yield from self.take(row)

    def read_all(self) -> State:
        """Return the state at the end of the log. Raises: DamagedRow."""
        for _ in self.catch_up():
            pass
        return self.state


def _barred(state: State) -> set[tuple[str, str]]:
    quarantines = state.quarantines.items()
    return {(channel, closure) for channel, closures in quarantines for closure in closures}


def _subject(state: State, entry: Entry) -> Subject:
    match entry:
        case FactsReported() | FactReported() | FactRefused():
            return state.view.host(entry.rollout_id, entry.host)
        case RolloutMoved():
            return state.view.rollouts.get(subject_of(entry.event))
        case Planned():
            opens = isinstance(entry.action, OpenRollout)
            return state.view.rollouts.get(entry.action.rollout_id) if opens else None
        case Deferred() | Returned() | Commanded() | ArtefactTaken() | ArtefactRefused():
            return None
        case HostEnrolled() | IdentityForked() | HoldMoved() | Followed():
            return None
        case _:
            assert_never(entry)


def _wave_of(subject: Subject) -> int | None:
    return subject.current_wave if isinstance(subject, RolloutRecord) else None
