"""Stores with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import evolve

from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    PutDispatch,
    PutHostRecord,
    RemoveHostRecords,
    RetireQuarantineRow,
    SetRecordsThrough,
    Write,
)
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Snapshot, Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_runtime.storage.sqlite import CommitInDoubt
from nixfleet_testing.contracts.store import StoreContract
from nixfleet_testing.contracts.store_cases import SIGNATURE
from tests.support.lossy_connection import Lost, lossy


class SeededContract(StoreContract):
    """Tries the store of class `store`."""

    store: type[SqliteStore]

    async def open_store(self, directory: Path) -> Store:
        return ThreadedStore(self.store(directory / "db"))


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


class TestAcknowledgesBeforeItCommits(SeededContract):
    """Keeps each commit in memory until the next one comes."""

    says = "make writes durable before you return"
    store = AnswersBeforeItCommits


class CommitsRowByRow(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        for write in writes:
            super().commit([write])


class TestCommitsRowByRow(SeededContract):
    """Makes every write a transaction of its own."""

    says = "put all writes of a commit into one transaction"
    store = CommitsRowByRow


class ForgetsForeignKeys(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA foreign_keys=OFF")


class TestForgetsTheForeignKey(SeededContract):
    """Takes a view row that names a log row which is not there."""

    says = "expected your store to refuse PutHold"
    store = ForgetsForeignKeys


class SkipsKnownRows(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        head = self.load().head_seq
        super().commit([w for w in writes if not (isinstance(w, LogRow) and w.seq <= head)])


class TestSkipsARowWhoseNumberIsTaken(SeededContract):
    """Takes a log row with a number that is in the log for one that it has already."""

    says = "expected your store to refuse LogRow"
    store = SkipsKnownRows


class RemovesFirst(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(sorted(writes, key=lambda w: "Remove" not in type(w).__name__))


class TestReordersACommit(SeededContract):
    """Carries out what is to be removed before what is to be put."""

    says = "the writes were re-ordered"
    store = RemovesFirst


class LeavesTransactionsOpen(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        try:
            super().commit(writes)
        except Exception:
            self._connection.execute("BEGIN IMMEDIATE")
            raise


class TestLeavesAFailedTransactionOpen(SeededContract):
    """Does not end the transaction of a commit that failed."""

    says = "after a commit that failed, the next one failed too"
    store = LeavesTransactionsOpen


class BelongsToAThread(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._thread = threading.get_ident()

    def commit(self, writes: Sequence[Write]) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("made in another thread")
        super().commit(writes)


class TestBelongsToAThread(SeededContract):
    """Commits in the thread that opened it, and in no other."""

    says = "a commit from another thread raised"
    store = BelongsToAThread


class ClearsTheWholeProbe(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        for write in writes:
            if isinstance(write, ClearProbeFailure):
                self._connection.execute(
                    "UPDATE probe_failures SET cleared_by_seq = ? WHERE event_log_seq = ?",
                    (write.cleared_by_seq, write.event_log_seq),
                )


class TestClearsEveryControlOfAProbe(SeededContract):
    """Takes one control that is over for all that the same row had opened."""

    says = ": missing StoredFailure("
    store = ClearsTheWholeProbe


class KeepsQuarantines(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([w for w in writes if not isinstance(w, RetireQuarantineRow)])


class TestKeepsARetiredQuarantine(SeededContract):
    """Has a quarantine in force that an operator retired."""

    says = ": not expected ('stable', 'k2f-web-01-26.05')"
    store = KeepsQuarantines


class RemovesAllHostRecords(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        if any(isinstance(write, RemoveHostRecords) for write in writes):
            self._connection.execute("DELETE FROM host_rollout_records")


class TestRemovesTheHostRecordsOfAllRollouts(SeededContract):
    """Forgets every host when one rollout is pruned."""

    says = "[(RolloutId('stable@d4e5f6'), 'web-02')]: missing StoredHost("
    store = RemovesAllHostRecords


class LosesSignatures(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([w._replace(signature="") if isinstance(w, LogRow) else w for w in writes])


class TestLosesSignatures(SeededContract):
    """Keeps what was said and not the proof of who said it."""

    says = f"[0].entry.signature: expected '{SIGNATURE}', found ''"
    store = LosesSignatures


class KeepsArtefactsByName(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._first: dict[tuple[str, int], str] = {}

    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([self._once(w) if isinstance(w, LogRow) else w for w in writes])

    def _once(self, row: LogRow) -> LogRow:
        if row.kind != "artefact_accepted":
            return row
        alike = row.payload[:200], len(row.payload)
        return row._replace(payload=self._first.setdefault(alike, row.payload))


class TestStoresAnArtefactOnceByItsName(SeededContract):
    """Takes an artefact that is signed again for the one that it has."""

    says = "an artefact was signed again, and is not read as it was: "
    store = KeepsArtefactsByName


class LosesMicroseconds(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([_rounded(w) if isinstance(w, PutDispatch) else w for w in writes])


def _rounded(write: PutDispatch) -> PutDispatch:
    due = write.dispatch.soak_due_at.replace(microsecond=0)
    return evolve(write, dispatch=evolve(write.dispatch, soak_due_at=due))


class TestLosesMicroseconds(SeededContract):
    """Keeps times to the second."""

    says = "[0].dispatch.soak_due_at: expected"
    store = LosesMicroseconds


class CountsInSigned(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([_cut(w) if isinstance(w, PutHostRecord) else w for w in writes])


def _cut(write: PutHostRecord) -> PutHostRecord:
    record = write.record
    seq = min(record.last_event_seq, 2**63 - 1)
    return evolve(write, record=evolve(record, last_event_seq=seq))


class TestCutsLargeNumbers(SeededContract):
    """Has signed 64-bit columns for numbers that are unsigned."""

    says = "record.last_event_seq: expected 18446744073709551615, found 9223372036854775807"
    store = CountsInSigned


class SkipsTheFirstOfTheTail(SqliteStore):
    def load(self) -> Snapshot:
        found = super().load()
        return evolve(found, tail=tuple(found.tail)[1:])


class TestBeginsTheTailOneRowLate(SeededContract):
    """Leaves out the first row that the cache does not know of."""

    says = "rows 1 to 8 were committed, found [2,"
    store = SkipsTheFirstOfTheTail


class SortsTheQueue(SqliteStore):
    def load(self) -> Snapshot:
        found = super().load()
        return evolve(
            found, dispatches=tuple(sorted(found.dispatches, key=lambda d: d.dispatch.hostname))
        )


class TestSortsTheQueueByName(SeededContract):
    """Returns dispatches by host instead of in the order in which they were queued."""

    says = "[1].dispatch.hostname: expected 'web-02', found 'web-01'"
    store = SortsTheQueue


class SwallowsErrors(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        with suppress(sqlite3.OperationalError):
            super().commit(writes)


class TestSwallowsErrorsOfTheDisk(SeededContract):
    """Returns from a commit that the disk did not take."""

    says = "the disk was full, `commit` returned"
    store = SwallowsErrors


class WritesOnClose(SqliteStore):
    def close(self) -> None:
        self.commit([SetRecordsThrough(self.load().head_seq)])
        super().close()


class TestWritesWhenItIsClosed(SeededContract):
    """Says at its end that its cache is complete, which nobody asked for."""

    says = "`close` changed what is stored"
    store = WritesOnClose


class BelievesTheError(SqliteStore):
    def __init__(self, path: Path) -> None:
        self.connection_type = self.lossy = lossy()
        super().__init__(path)

    def _is_durable(self, head_hash: bytes, doubt: CommitInDoubt) -> bool:
        return False


class TestCommitsAndLosesTheAnswer(SeededContract):
    """Takes an error at the end of a commit for a commit that did not happen."""

    says = "the answer of a commit was lost, `commit` raised, and the log ends at row 9 of 9"

    async def open_store(self, directory: Path) -> Store:
        store = BelievesTheError(directory / "db")
        self.losing = store.lossy.losing
        return ThreadedStore(store)

    def lose_the_next_answer(self) -> None:
        self.losing.append(Lost.ANSWER)


class WritesInPlace(SqliteStore):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._connection.execute("PRAGMA journal_mode=MEMORY")


class TestWritesInPlace(SeededContract):
    """Writes over its file, and keeps what was there before in memory alone."""

    says = "never write in place"
    store = WritesInPlace


class WritesInHalves(SqliteStore):
    def commit(self, writes: Sequence[Write]) -> None:
        if len(writes) == 2:
            super().commit(writes[:1])
            writes = writes[1:]
        super().commit(writes)


class TestTearsACommit(SeededContract):
    """Makes a small commit in two steps, and can be killed in between."""

    says = "the next one finds a part of the commit: rows"
    store = WritesInHalves
