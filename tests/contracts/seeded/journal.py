"""Journals with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import evolve

from nixfleet_agent.journal.journal import Journal, JournalRow, JournalSnapshot, SqliteJournal
from nixfleet_agent.journal.threaded_journal import ThreadedJournal
from nixfleet_agent.messages.writes import (
    MarkRefused,
    MarkUnsent,
    PutOrder,
    PutRecord,
    RemoveRollout,
    Write,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.storage.sqlite import CommitInDoubt
from nixfleet_testing.contracts.journal import JournalContract
from tests.support.lossy_connection import Lost, lossy


class SeededContract(JournalContract):
    """Tries the journal of class `journal`."""

    journal: type[SqliteJournal]

    async def open_journal(self, directory: Path) -> Journal:
        return ThreadedJournal(self.journal(directory / "db"))


class AnswersBeforeItCommits(SqliteJournal):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: Sequence[Write] = ()

    def commit(self, writes: Sequence[Write]) -> None:
        waiting, self._waiting = self._waiting, writes
        super().commit(waiting)

    def load(self) -> JournalSnapshot:
        self.commit(())
        return super().load()

    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        self.commit(())
        return super().unsent(limit, excluding)


class TestAcknowledgesBeforeItCommits(SeededContract):
    """Keeps each commit in memory until the next one comes."""

    says = "after a crash nothing is to be sent: make it durable first"
    journal = AnswersBeforeItCommits


class SharesItsConnection(SqliteJournal):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reader.close()
        self._reader = self._writer


class TestSendsBeforeItIsDurable(SeededContract):
    """Answers the sender from the connection that writes, in the middle of its transaction."""

    says = "were unsent in the middle of a commit, which then failed"
    journal = SharesItsConnection


class CommitsRowByRow(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        for write in writes:
            super().commit([write])


class TestCommitsRowByRow(SeededContract):
    """Makes every write a transaction of its own."""

    says = "put all writes of a commit into one transaction"
    journal = CommitsRowByRow


class LeavesTransactionsOpen(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        try:
            super().commit(writes)
        except sqlite3.Error:
            self._writer.execute("BEGIN IMMEDIATE")
            raise


class TestLeavesAFailedTransactionOpen(SeededContract):
    """Does not end the transaction of a commit that failed."""

    says = "after a commit that failed, the next one failed too"
    journal = LeavesTransactionsOpen


class IgnoresConflicts(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        with suppress(sqlite3.IntegrityError):
            super().commit(writes)


class TestDropsACommitWithoutAWord(SeededContract):
    """Passes over a commit that cannot be, as if it had been carried out."""

    says = "and `commit` took another one"
    journal = IgnoresConflicts


class NewestFirst(SqliteJournal):
    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        return super().unsent(limit, excluding)[::-1]


class TestSendsTheNewestFirst(SeededContract):
    """Returns what is unsent in the wrong order."""

    says = "facts were appended in the order"
    journal = NewestFirst


class IgnoresTheLimit(SqliteJournal):
    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        return super().unsent(1_000)


class TestReturnsMoreThanAskedFor(SeededContract):
    """Fills a batch beyond what the wire takes."""

    says = "`unsent(3)` returns"
    journal = IgnoresTheLimit


class ForgetsWhatWasSent(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        self._writer.execute("DELETE FROM events WHERE is_acknowledged = 1")


class TestForgetsWhatWasAcknowledged(SeededContract):
    """Deletes a fact once the control plane has it."""

    says = "a replay has nothing to send: keep it"
    journal = ForgetsWhatWasSent


class ReplaysEverything(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        if any(isinstance(write, MarkUnsent) for write in writes):
            self._writer.execute("UPDATE events SET is_acknowledged = 0")


class TestReplaysEveryRollout(SeededContract):
    """Sends all facts again when one rollout's were asked for."""

    says = "asked to replay stable@a1b2c3 from 3, the journal sends"
    journal = ReplaysEverything


class ForgetsRefusals(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([write for write in writes if not isinstance(write, MarkRefused)])


class TestSendsARefusedFactAgain(SeededContract):
    """Has what the control plane will never take hold up the rest for ever."""

    says = "fact 1 was refused; unsent: [1,"
    journal = ForgetsRefusals


class CountsOpenIntents(SqliteJournal):
    def load(self) -> JournalSnapshot:
        found = super().load()
        last = max((intent.intent_id for intent in found.intents), default=0)
        return evolve(found, last_intent_id=last)


class TestGivesTheNumberOfAnIntentTwice(SeededContract):
    """Takes the highest number that is in use for the last one that was given."""

    says = "it would be used again"
    journal = CountsOpenIntents


class ForgetsIntents(SqliteJournal):
    def load(self) -> JournalSnapshot:
        return evolve(super().load(), intents=())


class TestForgetsWhatWasDecided(SeededContract):
    """Does not know after a start which switches were under way."""

    says = "of what was decided and is not over, after a crash"
    journal = ForgetsIntents


class KeepsFacts(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([write for write in writes if not isinstance(write, RemoveRollout)])
        for write in writes:
            if isinstance(write, RemoveRollout):
                self._writer.execute(
                    "DELETE FROM rollouts WHERE rollout_id = ?", (write.rollout_id,)
                )


class TestKeepsTheFactsOfAForgottenRollout(SeededContract):
    """Sends what belongs to a rollout that it forgot."""

    says = "stable@a1b2c3 was forgotten, and the facts are those of"
    journal = KeepsFacts


class Reopens(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(
            [evolve(w, closed_at=None) if isinstance(w, PutRecord) else w for w in writes]
        )


class TestReopensClosedRollouts(SeededContract):
    """Forgets that a newer rollout took over, and may roll back what no longer runs."""

    says = "[0].closed_at: expected datetime"
    journal = Reopens


class ForgetsThePolicy(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        policy = RolloutPolicy()
        super().commit(
            [evolve(w, policy=policy) if isinstance(w, PutRecord) else w for w in writes]
        )


class TestForgetsThePolicy(SeededContract):
    """Does not roll back after a restart what was to be rolled back before it."""

    says = "[0].policy.on_health_failure: expected"
    journal = ForgetsThePolicy


class KeepsThePolicyOnFailures(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(
            [
                evolve(w, policy=RolloutPolicy(w.policy.on_health_failure))
                if isinstance(w, PutRecord)
                else w
                for w in writes
            ]
        )


class TestForgetsTheDeadlines(SeededContract):
    """Waits for ever after a restart, where a deadline was signed."""

    says = "[0].policy.deadlines.activation: expected"
    journal = KeepsThePolicyOnFailures


class CountsItsOwnFacts(SqliteJournal):
    def last_seqs(self) -> FrozenMap[str, int]:
        rows = self._reader.execute("SELECT rollout_id, max(seq) FROM events GROUP BY rollout_id")
        return FrozenMap(rows.fetchall())


class TestForgetsBootstrappedNumbers(SeededContract):
    """Tells the control plane only of facts of its own, and is handed the same record for ever."""

    says = "`last_seqs` says {}"
    journal = CountsItsOwnFacts


class KeepsRefusals(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        refused = self._writer.execute("SELECT row_id, refused_reason FROM events").fetchall()
        super().commit(writes)
        if any(isinstance(write, MarkUnsent) for write in writes):
            for row_id, reason in refused:
                self._writer.execute(
                    "UPDATE events SET refused_reason = ? WHERE row_id = ?", (reason, row_id)
                )


class TestLeavesAGapInAReplay(SeededContract):
    """Does not send a refused fact to a control plane that has forgotten the refusal."""

    says = "fact 3 had been refused, and asked to replay from 2"
    journal = KeepsRefusals


class ExcludesNothing(SqliteJournal):
    def unsent(self, limit: int, excluding: Collection[str] = ()) -> tuple[JournalRow, ...]:
        return super().unsent(limit)


class TestLetsOneRolloutHideTheOthers(SeededContract):
    """Returns what nobody takes for ever, and nothing else."""

    says = "without stable@a1b2c3 there are"
    journal = ExcludesNothing


class ForgetsWhatWasTakenOver(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(
            [evolve(w, taken_over_seq=0) if isinstance(w, PutRecord) else w for w in writes]
        )


class TestForgetsWhatWasTakenOver(SeededContract):
    """Takes what the control plane remembered for what was lived here."""

    says = "the first 3 facts of stable@a1b2c3 were taken over; after a crash: [0]"
    journal = ForgetsWhatWasTakenOver


class ForgetsWhenItWasHome(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([evolve(w, home_at=None) if isinstance(w, PutRecord) else w for w in writes])


class TestForgetsWhenItWasHome(SeededContract):
    """After its switch the host does not know that the control plane answered it before."""

    says = "after a crash: [None]"
    journal = ForgetsWhenItWasHome


class ForgetsThatAnOrderWasUsed(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(
            [w for w in writes if not isinstance(w, PutOrder) or w.is_recall or w.overrides_until]
        )


class TestForgetsThatAnOrderWasUsed(SeededContract):
    """An order that let one switch begin lets another one begin."""

    says = "order-1 overrides until"
    journal = ForgetsThatAnOrderWasUsed


class ForgetsOrders(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit([write for write in writes if not isinstance(write, PutOrder)])


class TestForgetsOrders(SeededContract):
    """An order that is relayed again after a restart is obeyed again."""

    says = "order-1 was obeyed in stable@a1b2c3; after a crash: {}"
    journal = ForgetsOrders


class SwallowsErrors(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        with suppress(sqlite3.OperationalError):
            super().commit(writes)


class TestSwallowsErrorsOfTheDisk(SeededContract):
    """Returns from a commit that the disk did not take."""

    says = "the disk was full, `commit` returned"
    journal = SwallowsErrors


class GivesNumbersAgain(SqliteJournal):
    def commit(self, writes: Sequence[Write]) -> None:
        super().commit(writes)
        self._writer.execute(
            "UPDATE sqlite_sequence SET seq = (SELECT ifnull(max(row_id), 0) FROM events) WHERE name = 'events'"
        )


class TestGivesTheNumberOfARemovedRowToAnother(SeededContract):
    """Numbers a new row as one that was removed with its rollout."""

    says = "never give the number of a removed row to another"
    journal = GivesNumbersAgain


class BelievesTheError(SqliteJournal):
    def __init__(self, path: Path) -> None:
        self.connection_type = self.lossy = lossy()
        super().__init__(path)

    def _settle(self, writes: Sequence[Write], doubt: CommitInDoubt) -> None:
        raise doubt.error


class TestCommitsAndLosesTheAnswer(SeededContract):
    """Takes an error at the end of a commit for a commit that did not happen."""

    says = "the answer of a commit was lost, `commit` raised, and facts [1, 2] are there"

    async def open_journal(self, directory: Path) -> Journal:
        journal = BelievesTheError(directory / "db")
        self.losing = journal.lossy.losing
        return ThreadedJournal(journal)

    def lose_the_next_answer(self) -> None:
        self.losing.append(Lost.ANSWER)


class WritesInPlace(SqliteJournal):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reader.close()
        self._writer.execute("PRAGMA journal_mode=MEMORY")
        self._reader = self._writer


class TestWritesInPlace(SeededContract):
    """Writes over its file, and keeps what was there before in memory alone."""

    says = "never write in place"
    journal = WritesInPlace
