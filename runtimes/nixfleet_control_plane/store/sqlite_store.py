"""The SQLite store: one writing connection, one transaction per commit. Computes the hash chain.

`sqlite_statements` maps writes to rows.
Source: docs/spec/runtimes.md, Store.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias, TypeVar

from nixfleet_control_plane.messages.entry_codec import entry_of, time_of
from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce
from nixfleet_control_plane.messages.log_entry import (
    FIRST_PREV_HASH,
    LoggedEntry,
    LogRow,
    chain_hash,
)
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.sqlite_statements import Statement, Value, statement_of
from nixfleet_control_plane.store.store import (
    Snapshot,
    StoredDispatch,
    StoredFailure,
    StoredHost,
    StoredRefusal,
)
from nixfleet_control_plane.store.stored_row import (
    LATER_OF,
    LOG_BEGINS_AT,
    LOG_COLUMNS,
    PUT_CONTENT,
    READ_COLUMNS,
    read_row,
    stored_row,
)
from nixfleet_control_plane.store.tables import ChainedRow, ReadsItsLog, Tables
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown, OwnershipLost
from nixfleet_runtime.storage.record_codec import (
    decode_host_record,
    decode_rollout_record,
)
from nixfleet_runtime.storage.sqlite import (
    CommitInDoubt,
    WalLimiter,
    settle,
    transaction,
)
from nixfleet_runtime.storage.upgrade import Check
from nixfleet_runtime.storage.writer import open_writer
from nixfleet_state_machine.planner.action import DeferDispatch, Gate
from nixfleet_state_machine.planner.holds.hold import Hold, parse_source
from nixfleet_state_machine.planner.holds.scope import parse_scope
from nixfleet_state_machine.rollout.state import RolloutState

T = TypeVar("T")

INSERT_LOG = (
    f"INSERT INTO event_log ({LOG_COLUMNS}, prev_hash, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)


_LoggedRow: TypeAlias = tuple[int, *tuple[Value, ...]]
"""A row of the log with its number first, and its hashes last."""


class AnotherWriter(OwnershipLost):
    """Another process wrote to the database since this one's last commit. Nothing of the commit was written.

    expected, found: the hash of the log's last row, in hexadecimal.
    """

    def __init__(self, path: Path, expected: bytes, found: bytes) -> None:
        super().__init__(str(path), expected.hex(), found.hex())

    def __str__(self) -> str:
        return (
            f"{self.where}: expected a log that ends with the row {self.expected}, which this process wrote, "
            f"found {self.found}: another process writes to it; stop both, and start one"
        )


class OutOfOrder(NixfleetError):
    """A commit has a log row with another number than the next one. Nothing of the commit was written."""

    def __init__(self, path: Path, expected: int, found: int) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.path}: event_log is append-only: expected the number after the last, {self.expected}, "
            f"found {self.found}"
        )


class SqliteStore:
    """A control plane's database in one file, created if it does not exist, upgraded if it is of an older version.

    For one thread at a time; `ThreadedStore` makes it a `Store`. connection_type: tests replace it.
    check: asked before this program writes to the file for the first time, as of `writer.open_writer`.
    Raises: the errors of `writer.open_writer`.
    """

    connection_type: type[sqlite3.Connection] = sqlite3.Connection

    def __init__(self, path: Path, check: Check | None = None) -> None:
        self._path = path
        self._check = check
        self._connection = self._open()
        self._wal = WalLimiter(self._connection, path)
        self._head_hash = _head_hash(self._connection)

    def _open(self) -> sqlite3.Connection:
        return open_writer(
            self._path, DATABASE_FORMAT, check=self._check, connection_type=self.connection_type
        )

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, atomically. Finds out itself what became of a COMMIT that failed.

        Raises: AnotherWriter, OutcomeUnknown; OutOfOrder, other errors of sqlite3, and then nothing has changed.
        """
        head_hash = self._head_hash
        log: list[_LoggedRow] = []
        contents: dict[str, str] = {}
        others: list[Statement] = []
        for write in writes:
            if isinstance(write, LogRow):
                prev_hash, head_hash = head_hash, chain_hash(head_hash, write)
                stored, referred = stored_row(write)
                log.append((*stored, prev_hash, head_hash))
                if referred:
                    contents |= referred
            else:
                others.append(statement_of(write))
        try:
            self._carry_out(log, contents, others)
        except CommitInDoubt as doubt:
            if not log:
                self._repeat(others, doubt)
            elif not self._is_durable(head_hash, doubt):
                raise doubt.error from None
        self._head_hash = head_hash
        self._wal.truncate_if_long()

    def _carry_out(
        self,
        log: Sequence[_LoggedRow],
        contents: Mapping[str, str],
        others: Sequence[Statement],
    ) -> None:
        with transaction(self._connection):
            # Asked, because a commit of cached records alone adds nothing to the log, which would refuse it.
            last, found = _head(self._connection)
            if found != self._head_hash:
                raise AnotherWriter(self._path, self._head_hash, found)
            for expected, (seq, *_) in enumerate(log, start=last + 1):
                if seq != expected:
                    raise OutOfOrder(self._path, expected, seq)
            self._connection.executemany(PUT_CONTENT, contents.items())
            # Before the others, because rows of the views reference them.
            self._connection.executemany(INSERT_LOG, log)
            for statement, alike in groupby(others, key=itemgetter(0)):
                self._connection.executemany(statement, [values for _, values in alike])

    def _is_durable(self, head_hash: bytes, doubt: CommitInDoubt) -> bool:
        """Open the file again, and return whether the log ends with `head_hash`.

        Raises: AnotherWriter, OutcomeUnknown.
        """
        try:
            found = self._reopened()
            settle(self._connection, is_there=found == head_hash)
        except (sqlite3.Error, OSError, NixfleetError) as error:
            raise OutcomeUnknown(str(self._path), str(error)) from doubt
        if found not in (head_hash, self._head_hash):
            raise AnotherWriter(self._path, self._head_hash, found)
        return found == head_hash

    def _repeat(self, others: Sequence[Statement], doubt: CommitInDoubt) -> None:
        """Carry out again a commit that added nothing to the log, which does not show whether it is there.

        It consists of cached records: written twice they are as written once, and one that failed is written again by
        the next flush, whether it is there or not. So on a full disk there is nothing to find out.
        Raises: AnotherWriter, OutcomeUnknown; the error of the commit, if it fails again.
        """
        try:
            self._reopened()
        except (sqlite3.Error, OSError, NixfleetError) as error:
            raise OutcomeUnknown(str(self._path), str(error)) from doubt
        try:
            self._carry_out((), {}, others)
        except (sqlite3.Error, CommitInDoubt):
            raise doubt.error from None

    def _reopened(self) -> bytes:
        """Use a new connection, and return the hash of the last row that it finds."""
        # Before the other one is closed: the last to close a file removes what a full disk has no room for.
        connection = self._open()
        self._connection.close()
        self._connection = connection
        self._wal = WalLimiter(connection, self._path)
        return _head_hash(connection)

    def between_commits(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of `work` on the writing connection; it leaves the log's last row as it is.

        Raises: OutcomeUnknown; what `work` raises, and then nothing of its last transaction was written, unless the
        error is one of its COMMIT: that may be repeated.
        """
        try:
            return work(self._connection)
        except CommitInDoubt as doubt:
            try:
                self._reopened()
            except (sqlite3.Error, OSError, NixfleetError) as error:
                raise OutcomeUnknown(str(self._path), str(error)) from doubt
            raise doubt.error from None

    def load(self) -> Snapshot:
        """Return everything committed. Raises: DamagedRow, DecodeError."""
        return snapshot_of(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def snapshot_of(connection: sqlite3.Connection) -> Snapshot:
    """Return everything in the database. Raises: DamagedRow, DecodeError."""
    through: int = connection.execute(
        "SELECT ifnull(max(event_log_seq), 0) FROM host_records_through"
    ).fetchone()[0]
    quarantined = connection.execute(
        "SELECT channel, closure_hash, quarantined_at FROM quarantined_closures"
        " WHERE cleared_by_seq IS NULL"
    ).fetchall()
    deferred = connection.execute(
        "SELECT hostname, rollout_id, gate, reason, since FROM deferrals"
    ).fetchall()
    return Snapshot(
        cached_through=through,
        head_seq=connection.execute("SELECT ifnull(max(seq), 0) FROM event_log").fetchone()[0],
        artefacts=tuple(_artefacts(connection)),
        rollouts=tuple(
            (decode_rollout_record(record.encode()), time_of(ts))
            for record, ts in connection.execute(
                # A rollout whose row of the log is gone is not to be opened a second time.
                "SELECT record, ifnull(ts, opened_at) FROM rollouts LEFT JOIN event_log"
                " ON seq = last_transition_event_log_seq WHERE state != ?"
                " OR rollouts.rollout_id IN (SELECT rollout_id FROM artefacts) ORDER BY 1",
                (RolloutState.PRUNED.value,),
            )
        ),
        pruned=tuple(
            rollout_id
            for (rollout_id,) in connection.execute(
                "SELECT rollout_id FROM rollouts WHERE state = ?", (RolloutState.PRUNED.value,)
            )
        ),
        hosts=tuple(
            StoredHost(decode_host_record(record.encode()), seq)
            for record, seq in connection.execute(
                "SELECT record, event_log_seq FROM host_rollout_records"
            )
        ),
        tail=(entry_of(row) for row in read_log(connection, after_seq=through)),
        failures=tuple(
            StoredFailure(RolloutId(rollout_id), *rest)
            for rollout_id, *rest in connection.execute(
                "SELECT rollout_id, host_id, probe_name, control_id, framework, event_log_seq"
                " FROM probe_failures WHERE cleared_by_seq IS NULL"
            )
        ),
        quarantines=tuple((channel, closure) for channel, closure, _ in quarantined),
        quarantined_at=tuple(time_of(at) for _, _, at in quarantined),
        dispatches=tuple(_dispatches(connection)),
        deferrals=tuple(
            DeferDispatch(host, RolloutId(rollout_id), Gate(gate), reason)
            for host, rollout_id, gate, reason, _ in deferred
        ),
        deferred_since=tuple(time_of(since) for *_, since in deferred),
        beginnings=tuple(
            (budget, time_of(began_at))
            for budget, began_at in connection.execute(
                "SELECT budget, began_at FROM beginnings ORDER BY event_log_seq"
            )
        ),
        holds=tuple(
            Hold(
                parse_scope(scope),
                parse_source(source),
                reason,
                None if until is None else time_of(until),
                time_of(held_at),
            )
            for scope, source, reason, until, held_at in connection.execute(
                "SELECT scope, source, reason, until, held_at FROM holds"
            )
        ),
        warrants=tuple(
            decode_signed_warrant(warrant.encode())
            for (warrant,) in connection.execute(
                "SELECT warrant FROM warrants ORDER BY event_log_seq"
            )
        ),
        refused=tuple(
            StoredRefusal(RolloutId(rollout_id), hostname, int(seq), reason, bool(counts))
            for rollout_id, hostname, seq, reason, counts in connection.execute(
                # What resumes a host is of no rollout.
                "SELECT refused.rollout_id, hostname, refused.seq, reason, log.rollout_id IS NOT NULL"
                " FROM refused_events AS refused JOIN event_log AS log ON log.seq = event_log_seq"
            )
        ),
        enrolled=tuple(
            EnrolledHost(hostname, TrustedKey(public_key), time_of(enrolled_at))
            for hostname, public_key, enrolled_at in connection.execute(
                "SELECT hostname, public_key, enrolled_at FROM hosts"
            )
        ),
        used_nonces=tuple(
            UsedNonce(nonce, hostname, TrustedKey(public_key), time_of(expires_at))
            for nonce, hostname, public_key, expires_at in connection.execute(
                "SELECT nonce, hostname, public_key, expires_at FROM token_replay"
            )
        ),
        revoked=tuple(
            Revocation(hostname, time_of(not_before), reason)
            for hostname, not_before, reason in connection.execute(
                "SELECT hostname, not_before, reason FROM revocations"
            )
        ),
    )


def _dispatches(connection: sqlite3.Connection) -> Iterator[StoredDispatch]:
    for (
        hostname,
        rollout_id,
        closure,
        soak_due_at,
        enqueued_at,
        attempt,
        queued_at,
    ) in connection.execute(
        "SELECT hostname, rollout_id, target_closure, soak_due_at, enqueued_at, attempt, queued_at"
        " FROM dispatch_queue ORDER BY event_log_seq"
    ):
        times = time_of(soak_due_at), time_of(enqueued_at)
        dispatch = Dispatch(hostname, rollout_id, closure, *times, attempt)
        yield StoredDispatch(dispatch, None if queued_at is None else time_of(queued_at))


def read_chain(connection: Tables) -> Iterator[ChainedRow]:
    """Yield each row with its `prev_hash` and `hash`, in order. Raises: DamagedRow."""
    if isinstance(connection, ReadsItsLog):
        yield from connection.chain(0)
        return
    for prev_hash, row_hash, *columns in connection.execute(
        f"SELECT prev_hash, hash, {READ_COLUMNS} FROM event_log WHERE seq >= {LOG_BEGINS_AT} ORDER BY seq"
    ):
        yield read_row(columns), prev_hash, row_hash


def read_log(connection: Tables, after_seq: int = 0) -> Iterator[LogRow]:
    """Yield each row after `after_seq`, in order. Raises: DamagedRow."""
    if isinstance(connection, ReadsItsLog):
        return (row for row, _, _ in connection.chain(after_seq))
    return map(
        read_row,
        connection.execute(
            f"SELECT {READ_COLUMNS} FROM event_log WHERE seq >= {LATER_OF} ORDER BY seq",
            (after_seq + 1,),
        ),
    )


def _head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Return the number and the hash of the log's last row."""
    head: tuple[int, bytes] | None = connection.execute(
        "SELECT seq, hash FROM event_log ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return head or (0, FIRST_PREV_HASH)


def _head_hash(connection: sqlite3.Connection) -> bytes:
    return _head(connection)[1]


def _artefacts(connection: sqlite3.Connection) -> Iterator[LoggedEntry]:
    for columns in connection.execute(
        f"SELECT {READ_COLUMNS} FROM event_log WHERE seq IN (SELECT event_log_seq FROM artefacts)"
        " ORDER BY seq"
    ):
        yield entry_of(read_row(columns))
