"""Stores with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

import threading
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from nixfleet_control_plane.log_entry import LogRow
from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_control_plane.store import Snapshot, Store
from nixfleet_control_plane.testing.kept import SIGNATURE
from nixfleet_control_plane.testing.store import StoreContract
from nixfleet_control_plane.writes import (
    ClearProbeFailure,
    PutDispatch,
    PutHostRecord,
    RemoveHostRecords,
    RetireQuarantineRow,
    SetRecordsThrough,
    Write,
)


class AnswersBeforeItCommits(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: Sequence[Write] = ()

    def commit(self, writes: Sequence[Write]) -> None:
        waiting, self._waiting = self._waiting, writes
        super().commit(waiting)

    def load(self) -> Snapshot:
        self.commit(())
        return super().load()


class TestAcknowledgesBeforeItCommits(StoreContract):
    """Keeps each commit in memory until the next one comes."""

    says = "make writes durable before you return"

    def open_store(self, directory: Path) -> Store:
        return AnswersBeforeItCommits(directory / "db")


class CommitsRowByRow(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        for write in writes:
            super().commit([write])


class TestCommitsRowByRow(StoreContract):
    """Makes every write a transaction of its own."""

    says = "put all writes of a commit into one transaction"

    def open_store(self, directory: Path) -> Store:
        return CommitsRowByRow(directory / "db")


class ForgetsForeignKeys(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA foreign_keys=OFF")


class TestForgetsTheForeignKey(StoreContract):
    """Takes a view row that names a log row which is not there."""

    says = "your store took PutHold"

    def open_store(self, directory: Path) -> Store:
        return ForgetsForeignKeys(directory / "db")


class SkipsKnownRows(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        head = self.load().head_seq
        super().commit([w for w in writes if not (isinstance(w, LogRow) and w.seq <= head)])


class TestSkipsARowWhoseNumberIsTaken(StoreContract):
    """Takes a log row with a number that is in the log for one that it has already."""

    says = "your store took LogRow"

    def open_store(self, directory: Path) -> Store:
        return SkipsKnownRows(directory / "db")


class RemovesFirst(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(sorted(writes, key=lambda w: "Remove" not in type(w).__name__))


class TestReordersACommit(StoreContract):
    """Carries out what is to be removed before what is to be put."""

    says = "the writes were re-ordered"

    def open_store(self, directory: Path) -> Store:
        return RemovesFirst(directory / "db")


class LeavesTransactionsOpen(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        try:
            super().commit(writes)
        except Exception:
            self._connection.execute("BEGIN IMMEDIATE")
            raise


class TestLeavesAFailedTransactionOpen(StoreContract):
    """Does not end the transaction of a commit that failed."""

    says = "after a commit that failed, the next one failed too"

    def open_store(self, directory: Path) -> Store:
        return LeavesTransactionsOpen(directory / "db")


class BelongsToAThread(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._thread = threading.get_ident()

    def commit(self, writes: Sequence[Write]) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("made in another thread")
        super().commit(writes)


class TestBelongsToAThread(StoreContract):
    """Commits in the thread that opened it, and in no other."""

    says = "a commit from another thread raised"

    def open_store(self, directory: Path) -> Store:
        return BelongsToAThread(directory / "db")


class ClearsTheWholeProbe(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        for write in writes:
            if isinstance(write, ClearProbeFailure):
                self._connection.execute(
                    "UPDATE probe_failures SET cleared_by_seq = ? WHERE event_log_seq = ?",
                    (write.cleared_by_seq, write.event_log_seq),
                )


class TestClearsEveryControlOfAProbe(StoreContract):
    """Takes one control that is over for all that the same row had opened."""

    says = ": missing StoredFailure("

    def open_store(self, directory: Path) -> Store:
        return ClearsTheWholeProbe(directory / "db")


class KeepsQuarantines(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([w for w in writes if not isinstance(w, RetireQuarantineRow)])


class TestKeepsARetiredQuarantine(StoreContract):
    """Has a quarantine in force that an operator retired."""

    says = ": not expected ('stable', 'k2f-web-01-26.05')"

    def open_store(self, directory: Path) -> Store:
        return KeepsQuarantines(directory / "db")


class RemovesAllHostRecords(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        if any(isinstance(write, RemoveHostRecords) for write in writes):
            self._connection.execute("DELETE FROM host_rollout_records")


class TestRemovesTheHostRecordsOfAllRollouts(StoreContract):
    """Forgets every host when one rollout is pruned."""

    says = "[('stable@d4e5f6', 'web-02')]: missing StoredHost("

    def open_store(self, directory: Path) -> Store:
        return RemovesAllHostRecords(directory / "db")


class LosesSignatures(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([evolve(w, signature="") if isinstance(w, LogRow) else w for w in writes])


class TestLosesSignatures(StoreContract):
    """Keeps what was said and not the proof of who said it."""

    says = f"[0].entry.signature: expected '{SIGNATURE}', found ''"

    def open_store(self, directory: Path) -> Store:
        return LosesSignatures(directory / "db")


class LosesMicroseconds(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([_rounded(w) if isinstance(w, PutDispatch) else w for w in writes])


def _rounded(write: PutDispatch) -> PutDispatch:
    due = write.dispatch.soak_due_at.replace(microsecond=0)
    return evolve(write, dispatch=evolve(write.dispatch, soak_due_at=due))


class TestLosesMicroseconds(StoreContract):
    """Keeps times to the second."""

    says = "[0].soak_due_at: expected"

    def open_store(self, directory: Path) -> Store:
        return LosesMicroseconds(directory / "db")


class CountsInSigned(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([_cut(w) if isinstance(w, PutHostRecord) else w for w in writes])


def _cut(write: PutHostRecord) -> PutHostRecord:
    record = write.record
    seq = min(record.last_event_seq, 2**63 - 1)
    return evolve(write, record=evolve(record, last_event_seq=seq))


class TestCutsLargeNumbers(StoreContract):
    """Has signed 64-bit columns for numbers that are unsigned."""

    says = "record.last_event_seq: expected 18446744073709551615, found 9223372036854775807"

    def open_store(self, directory: Path) -> Store:
        return CountsInSigned(directory / "db")


class SkipsTheFirstOfTheTail(SqliteStore):
    def load(self) -> Snapshot:
        found = super().load()
        return evolve(found, tail=found.tail[1:])


class TestBeginsTheTailOneRowLate(StoreContract):
    """Leaves out the first row that the cache does not know of."""

    says = "rows 1 to 8 were committed, found [2,"

    def open_store(self, directory: Path) -> Store:
        return SkipsTheFirstOfTheTail(directory / "db")


class SortsTheQueue(SqliteStore):
    def load(self) -> Snapshot:
        found = super().load()
        return evolve(found, dispatches=tuple(sorted(found.dispatches, key=lambda d: d.hostname)))


class TestSortsTheQueueByName(StoreContract):
    """Returns dispatches by host instead of in the order in which they were queued."""

    says = "[1].hostname: expected 'web-02', found 'web-01'"

    def open_store(self, directory: Path) -> Store:
        return SortsTheQueue(directory / "db")


class WritesOnClose(SqliteStore):
    def close(self) -> None:
        self.commit([SetRecordsThrough(self.load().head_seq)])
        super().close()


class TestWritesWhenItIsClosed(StoreContract):
    """Says at its end that its cache is complete, which nobody asked for."""

    says = "`close` changed what is stored"

    def open_store(self, directory: Path) -> Store:
        return WritesOnClose(directory / "db")
