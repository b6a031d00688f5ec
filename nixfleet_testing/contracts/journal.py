"""The contract of a journal: facts are durable before they are sent, and intents are durable until they are done.

Subclass `JournalContract`, open your journal on a directory, and run pytest. A crash is a journal that is
never closed and another one opened where it was.
Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Intents.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, overload

import anyio
import pytest
from attrs import asdict, evolve

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.engine.state import LocalRollout, ObeyedOrder
from nixfleet_agent.journal.journal import BlockingJournal, Journal
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    AppendEvent,
    MarkAcknowledged,
    MarkRefused,
    MarkUnsent,
    PutIntent,
    PutNewestRelease,
    PutOrder,
    PutRecord,
    PutRolledBack,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.event_loop import ASYNCIO
from nixfleet_testing.contracts.full_disk import full_disk
from nixfleet_testing.contracts.histories import (
    CONVERGES,
    HISTORIES,
    OTHER_ROLLOUT,
    PRIOR,
    ROLLOUT,
    ROLLS_BACK,
    TARGET,
    at,
    record_after,
)
from nixfleet_testing.contracts.killed import end_here, killed_copies
from nixfleet_testing.contracts.outside import JournalFromOutside, event_loop
from nixfleet_testing.contracts.restarts import Restarts
from nixfleet_testing.contracts.threads import error_in_thread
from nixfleet_testing.contracts.unflushed import tells_unflushed, unflushed_files

HALT = RolloutPolicy(OnHealthFailure.HALT)
ROLL_BACK = RolloutPolicy(OnHealthFailure.ROLLBACK_AND_HALT)
DEADLINES = RolloutPolicy(
    deadlines=Deadlines(
        activation=Deadline(30, AtDeadline.FAIL), convergence=Deadline(90, AtDeadline.SKIP)
    ),
    retry=Retry(attempts=3),
)
LOOK_SECONDS_MAX = 0.5
WEEKS = 52
FACTS_OF_A_FULL_DISK = 1_000
"""More than a full disk takes."""


def appended(*facts: AgentEvent, rollout_id: RolloutId = ROLLOUT) -> tuple[AppendEvent, ...]:
    """Return the writes that put `facts` into the journal."""
    return tuple(AppendEvent(rollout_id, fact, at(fact.seq)) for fact in facts)


def kept(
    record: HostRolloutState,
    policy: RolloutPolicy = ROLL_BACK,
    closed_at: datetime | None = None,
    taken_over_seq: int = 0,
) -> PutRecord:
    """Return the write that keeps a rollout's record."""
    return PutRecord(record, policy, closed_at, taken_over_seq)


class JournalContract(ABC):
    """What every `Journal` must do. Subclass it as `class TestMyJournal(JournalContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your journal runs in: "asyncio" or "trio"."""

    @abstractmethod
    async def open_journal(self, directory: Path) -> Journal:
        """Return your journal on what is kept in `directory`, as a new process does. An empty one: a new journal.

        If its calls block, return `ThreadedJournal(…)`.
        """

    is_on_disk: ClassVar[bool] = True
    """Whether your journal keeps what it has in files of `directory`. Without, three tests are skipped."""

    def lose_the_next_answer(self) -> None:
        """Let the next `commit` be carried out and its answer be lost, as by a connection that breaks.

        For a journal on which that can be provoked; the test is skipped otherwise.
        """
        pytest.skip("this journal has no way to lose an answer; see `lose_the_next_answer`")

    @pytest.fixture
    def journals(self, tmp_path: Path) -> Iterator[Restarts[BlockingJournal]]:
        """A directory, and the processes that open the journal in it."""
        with self.opened_in(tmp_path) as journals:
            yield journals

    @contextmanager
    def opened_in(self, directory: Path) -> Generator[Restarts[BlockingJournal]]:
        """The processes that open the journal in `directory`."""
        with event_loop(self.backend) as loop:

            def opened(directory: Path) -> BlockingJournal:
                return JournalFromOutside(loop, partial(self.open_journal, directory))

            journals = Restarts(opened, directory)
            with closing(journals):
                yield journals

    # What was committed is there.

    def test_a_new_journal_is_empty(self, journals: Restarts[BlockingJournal]) -> None:
        """`load`, `unsent` and `last_seqs` return nothing from a journal without commits."""
        journal = journals.start()
        found = asdict(journal.load(), recurse=False)
        assert not any(found.values()), f"a new journal must be empty, yours has {found}"
        assert journal.unsent(10) == (), "a new journal has something to send"
        assert not journal.last_seqs(), "a new journal knows of a rollout"

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_every_fact_is_there_after_a_crash(
        self, facts: tuple[AgentEvent, ...], journals: Restarts[BlockingJournal]
    ) -> None:
        """When `commit` returns its facts are durable: each as it was, each to be sent, in order."""
        journals.start().commit(appended(*facts))
        found = tuple(row.fact for row in journals.crash().unsent(100))
        assert found, (
            "`commit` had returned, and after a crash nothing is to be sent: make it durable first"
        )
        assert found == facts, (
            f"the facts are not the same after a crash: {difference(facts, found)}"
        )

    @pytest.mark.parametrize("closed_at", [None, at(500.000001)], ids=["open", "closed"])
    @pytest.mark.parametrize(
        "policy", [HALT, ROLL_BACK, DEADLINES], ids=["halt", "rollback", "deadlines"]
    )
    def test_a_rollout_is_there_after_a_crash(
        self, policy: RolloutPolicy, closed_at: datetime | None, journals: Restarts[BlockingJournal]
    ) -> None:
        """The latest record of a rollout, what is done on failure, and whether it is closed."""
        latest = record_after(ROLLS_BACK)
        journals.start().commit(
            [kept(record_after(ROLLS_BACK[:3])), kept(latest, policy, closed_at)]
        )
        found = journals.crash().load().rollouts
        expected = (LocalRollout(latest, policy, closed_at),)
        assert found == expected, (
            f"the rollout is not the same after a crash: {difference(expected, found)}"
        )

    def test_how_much_of_a_rollout_was_taken_over_is_there_after_a_crash(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """An agent must know which facts did not happen here: it does not act on those."""
        latest = record_after(ROLLS_BACK)
        journals.start().commit([kept(latest, taken_over_seq=3)])
        found = [rollout.taken_over_seq for rollout in journals.crash().load().rollouts]
        assert found == [3], (
            f"the first 3 facts of {ROLLOUT} were taken over; after a crash: {found}"
        )

    def test_when_a_host_was_home_is_there_after_a_crash(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A switch restarts the agent, and what was before it decides whether the switch cut the host off."""
        latest = record_after(ROLLS_BACK)
        journals.start().commit([evolve(kept(latest), home_at=at(3))])
        found = [rollout.home_at for rollout in journals.crash().load().rollouts]
        assert found == [at(3)], f"the host was home at {at(3)}; after a crash: {found}"

    def test_an_order_that_was_obeyed_is_there_after_a_crash_and_its_rollout(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A control plane can relay an order again; a host obeys it once, whatever it has forgotten meanwhile."""
        journal = journals.start()
        journal.commit([kept(record_after(ROLLS_BACK)), PutOrder("order-1", ROLLOUT, at(3))])
        journal.commit([RemoveRollout(ROLLOUT)])
        found = journals.crash().load().orders
        assert found == {"order-1": ObeyedOrder(ROLLOUT)}, (
            f"order-1 was obeyed in {ROLLOUT}; after a crash: {dict(found)}"
        )

    def test_until_when_an_order_overrides_the_lock_is_there_after_a_crash_unless_it_was_used(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """An order is good for one switch: `PutOrder` replaces the one of its name when it was used."""
        unused, used = ObeyedOrder(ROLLOUT, False, at(9)), ObeyedOrder(ROLLOUT, False)
        journals.start().commit(
            [
                PutOrder("order-1", ROLLOUT, at(3), is_recall=False, overrides_until=at(9)),
                PutOrder("order-2", ROLLOUT, at(3), is_recall=False, overrides_until=at(9)),
                PutOrder("order-2", ROLLOUT, at(4), is_recall=False),
            ]
        )
        found = journals.crash().load().orders
        assert found == {"order-1": unused, "order-2": used}, (
            f"order-1 overrides until {at(9)}, and order-2 was used; after a crash: {dict(found)}"
        )

    def test_an_intent_is_there_until_it_is_removed(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A switch or rollback that was decided is found by the next start, one that is over is not."""
        intents = (
            Intent(1, IntentKind.SWITCH, ROLLOUT, TARGET),
            Intent(2, IntentKind.ROLLBACK, ROLLOUT, PRIOR),
            Intent(3, IntentKind.SWITCH, OTHER_ROLLOUT, TARGET),
        )
        journals.start().commit([*(PutIntent(intent) for intent in intents), RemoveIntent(1)])
        found = journals.crash().load().intents
        assert found == intents[1:], (
            f"of what was decided and is not over, after a crash: {difference(intents[1:], found)}"
        )

    def test_how_often_an_intent_was_begun_is_there_after_a_crash(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A switch that ends the agent each time must be given up: `PutIntent` replaces the one with its number."""
        first = Intent(1, IntentKind.SWITCH, ROLLOUT, TARGET)
        again = evolve(first, attempts=2)
        journals.start().commit([PutIntent(first), PutIntent(again)])
        found = journals.crash().load().intents
        assert found == (again,), (
            f"the intent was begun twice, and after a crash: {difference((again,), found)}"
        )

    def test_a_number_of_an_intent_is_not_given_twice(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """The last number is known after its intent is done: a late outcome must not match a new intent."""
        journals.start().commit([PutIntent(Intent(7, IntentKind.SWITCH, ROLLOUT, TARGET))])
        journals.crash().commit([RemoveIntent(7)])
        found = journals.crash().load().last_intent_id
        assert found == 7, (
            f"intent 7 is done; expected the last number 7, found {found}: it would be used again"
        )

    def test_closing_writes_nothing(self, journals: Restarts[BlockingJournal]) -> None:
        """`close` only releases resources: the journal is as after a crash."""
        journals.start().commit([kept(record_after(CONVERGES)), *appended(*CONVERGES)])
        after_crash = journals.crash()
        before = after_crash.load(), after_crash.unsent(100)
        after_close = journals.restart()
        assert (after_close.load(), after_close.unsent(100)) == before, (
            "`close` changed the journal"
        )

    # What is sent.

    def test_the_oldest_unsent_facts_come_first(self, journals: Restarts[BlockingJournal]) -> None:
        """Facts of several rollouts come in the order in which they happened, no more than `limit`."""
        writes = [
            *appended(*CONVERGES[:2]),
            *appended(CONVERGES[0], rollout_id=OTHER_ROLLOUT),
            *appended(CONVERGES[2]),
        ]
        journal = journals.start()
        journal.commit(writes[:3])
        journal.commit(writes[3:])
        expected = [(ROLLOUT, 1), (ROLLOUT, 2), (OTHER_ROLLOUT, 1), (ROLLOUT, 3)]
        for limit in (4, 3, 1, 0):
            found = [(row.rollout_id, row.fact.seq) for row in journal.unsent(limit)]
            assert found == expected[:limit], (
                f"facts were appended in the order {expected}; `unsent({limit})` returns {found}"
            )

    def test_an_acknowledged_fact_is_not_sent_again(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """An acknowledged fact is not unsent, also after a crash."""
        journal = journals.start()
        journal.commit(appended(*CONVERGES))
        first, second, *_ = journal.unsent(10)
        journal.commit([MarkAcknowledged((first.row_id, second.row_id))])
        for when, found in (("", journal), (" after a crash", journals.crash())):
            seqs = _unsent_seqs(found)
            assert seqs == [3, 4, 5, 6, 7], f"facts 1 and 2 are acknowledged; unsent{when}: {seqs}"

    def test_a_refused_fact_is_not_sent_again(self, journals: Restarts[BlockingJournal]) -> None:
        """A fact that the control plane refuses does not block the others."""
        journal = journals.start()
        journal.commit(appended(*CONVERGES))
        journal.commit([MarkRefused(journal.unsent(1)[0].row_id, "breaks “soak-elapsed”")])
        for when, found in (("", journal), (" after a crash", journals.crash())):
            seqs = _unsent_seqs(found)
            assert seqs == [2, 3, 4, 5, 6, 7], f"fact 1 was refused; unsent{when}: {seqs}"

    def test_an_acknowledged_fact_is_kept_for_a_replay(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A control plane that lost its database gets what it lacks, and other rollouts' facts stay sent."""
        journal = journals.start()
        journal.commit([*appended(*CONVERGES), *appended(*ROLLS_BACK, rollout_id=OTHER_ROLLOUT)])
        row_ids = tuple(row.row_id for row in journal.unsent(100))
        journal.commit([MarkAcknowledged(row_ids)])
        journal.commit([MarkUnsent(ROLLOUT, 3)])
        found = [(row.rollout_id, row.fact) for row in journals.crash().unsent(100)]
        expected = [(ROLLOUT, fact) for fact in CONVERGES[2:]]
        assert found, (
            "an acknowledged fact was forgotten, and a replay has nothing to send: keep it"
        )
        assert found == expected, (
            f"asked to replay {ROLLOUT} from 3, the journal sends {[(r, f.seq) for r, f in found]}"
        )

    def test_a_refused_fact_is_sent_again_in_a_replay(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """Who asks for a replay has lost its refusals too; without the fact there would be a permanent gap."""
        journal = journals.start()
        journal.commit(appended(*CONVERGES))
        row_ids = [row.row_id for row in journal.unsent(10)]
        journal.commit(
            [MarkRefused(row_ids[2], "breaks a rule"), MarkAcknowledged(tuple(row_ids[3:]))]
        )
        journal.commit([MarkAcknowledged(tuple(row_ids[:2])), MarkUnsent(ROLLOUT, 2)])
        found = _unsent_seqs(journals.crash())
        assert found == [2, 3, 4, 5, 6, 7], (
            f"fact 3 had been refused, and asked to replay from 2 the journal sends {found}"
        )

    def test_a_rollout_can_be_left_out_of_what_is_sent(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """Facts that are not accepted, however many, do not hide those of other rollouts."""
        journal = journals.start()
        journal.commit([*appended(*CONVERGES), *appended(*CONVERGES[:2], rollout_id=OTHER_ROLLOUT)])
        found = [(row.rollout_id, row.fact.seq) for row in journal.unsent(3, {ROLLOUT})]
        expected = [(OTHER_ROLLOUT, 1), (OTHER_ROLLOUT, 2)]
        assert found == expected, (
            f"without {ROLLOUT} there are {expected}, `unsent` returns {found}"
        )
        nothing = journal.unsent(3, {ROLLOUT, OTHER_ROLLOUT})
        assert nothing == (), f"without either rollout there is nothing, `unsent` returns {nothing}"

    def test_nothing_is_sent_before_it_is_durable(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A reader in the middle of a commit does not see its facts: the commit may still fail, and this one does."""
        journal = journals.start()
        looks = _Looks(journal, appended(*CONVERGES[:2], CONVERGES[0]))
        failed = _is_refused(journal, looks)
        assert failed, "two facts of one rollout had the same number, and `commit` took them"
        assert looks.seen == set(), (
            f"facts {sorted(looks.seen)} were unsent in the middle of a commit, which then failed: "
            "they could have been sent, and their numbers will be used for other facts"
        )

    # What a host must not go back behind.

    def test_the_newest_release_is_the_one_put_last(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """It is one row, and stays when every rollout is removed: without it an older release could be replayed."""
        older, newer = ObeyedRelease(OTHER_ROLLOUT, at(1)), ObeyedRelease(ROLLOUT, at(2))
        journal = journals.start()
        assert journal.load().newest_release is None, "a new journal has obeyed no release"
        journal.commit([kept(record_after(CONVERGES)), PutNewestRelease(older)])
        journal.commit([PutNewestRelease(newer), RemoveRollout(ROLLOUT)])
        found = journals.crash().load().newest_release
        assert found == newer, f"{newer} was put last, and the journal has {found}"

    def test_a_closure_rolled_back_from_stays(self, journals: Restarts[BlockingJournal]) -> None:
        """Removing its rollout does not remove it, and a later release of the same closure replaces it."""
        first = RolledBackClosure(TARGET, ObeyedRelease(OTHER_ROLLOUT, at(1)))
        again = RolledBackClosure(TARGET, ObeyedRelease(ROLLOUT, at(2)))
        other = RolledBackClosure(PRIOR, ObeyedRelease(ROLLOUT, at(2)))
        journal = journals.start()
        journal.commit([PutRolledBack(first), PutRolledBack(again), PutRolledBack(other)])
        journal.commit([kept(record_after(ROLLS_BACK)), RemoveRollout(ROLLOUT)])
        found = {left.closure: left for left in journals.crash().load().rolled_back}
        expected = {TARGET: again, PRIOR: other}
        assert found == expected, f"rolled back from {expected}, and the journal has {found}"

    def test_facts_set_aside_are_not_sent_and_leave_their_numbers(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """The rollout begins anew with fact 1, and a replay does not bring the facts that were set aside."""
        journal = journals.start()
        journal.commit([kept(record_after(CONVERGES)), *appended(*CONVERGES)])
        journal.commit([SetRolloutAside(ROLLOUT, at(9))])
        found = journal.load().rollouts, _unsent_seqs(journal)
        assert found == ((), []), f"the rollout was set aside, and the journal has {found}"
        journal.commit([*appended(CONVERGES[0]), MarkUnsent(ROLLOUT, 1)])
        unsent = _unsent_seqs(journals.crash())
        assert unsent == [1], f"the rollout began anew with fact 1, and {unsent} are unsent"

    # Numbers.

    def test_the_last_number_of_each_rollout_is_known(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """It is the record's, even where a control plane handed that over and the facts are not here."""
        journals.start().commit(
            [kept(record_after(CONVERGES)), kept(record_after(ROLLS_BACK, OTHER_ROLLOUT))]
        )
        found = dict(journals.crash().last_seqs())
        expected = {ROLLOUT: 7, OTHER_ROLLOUT: 9}
        assert found == expected, f"the records end at {expected}, `last_seqs` says {found}"

    def test_the_same_number_in_two_rollouts_is_two_facts(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """Each rollout counts from 1."""
        journals.start().commit(
            [*appended(*CONVERGES), *appended(*CONVERGES, rollout_id=OTHER_ROLLOUT)]
        )
        found = len(journals.crash().unsent(100))
        assert found == 2 * len(CONVERGES), (
            f"{2 * len(CONVERGES)} facts of two rollouts, found {found}"
        )

    # All or none.

    def test_a_commit_that_fails_leaves_nothing_behind(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A number that is in use is refused, and nothing of such a commit remains."""
        journal = journals.start()
        journal.commit([kept(record_after(CONVERGES[:1])), *appended(CONVERGES[0])])
        before = journal.load(), _unsent_seqs(journal)
        intent = Intent(1, IntentKind.SWITCH, ROLLOUT, TARGET)
        record = kept(record_after(CONVERGES))
        facts = appended(*CONVERGES[1:3], ROLLS_BACK[0])
        refused = _is_refused(journal, [record, PutIntent(intent), *facts])
        assert refused, f"{ROLLOUT} has a fact 1, and `commit` took another one"
        for when, found in (("", journal), (" after a crash", journals.crash())):
            after = found.load(), _unsent_seqs(found)
            assert after == before, (
                f"a commit failed, and a part of it is there{when}: intents {after[0].intents}, unsent {after[1]}; "
                "put all writes of a commit into one transaction"
            )

    def test_the_commit_after_one_that_failed_succeeds(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A failed commit has no effect on the next one: the same numbers can be used again."""
        journal = journals.start()
        _is_refused(journal, appended(CONVERGES[0], CONVERGES[0]))
        try:
            journal.commit(appended(*CONVERGES[:2]))
        except Exception as error:
            raise AssertionError(
                f"after a commit that failed, the next one failed too: {error!r}; end the transaction"
            ) from error
        found = _unsent_seqs(journals.crash())
        assert found == [1, 2], f"facts 1 and 2 were committed after a failure; unsent: {found}"

    def test_writes_are_carried_out_in_order(self, journals: Restarts[BlockingJournal]) -> None:
        """What is put and then removed is gone, what is removed and then put is there."""
        intent = Intent(1, IntentKind.SWITCH, ROLLOUT, TARGET)
        record = kept(record_after(CONVERGES, OTHER_ROLLOUT))
        journals.start().commit(
            [PutIntent(intent), RemoveIntent(1), RemoveRollout(OTHER_ROLLOUT), record]
        )
        found = journals.crash().load()
        assert found.intents == (), (
            "an intent was put and then removed, and is there: writes were re-ordered"
        )
        assert len(found.rollouts) == 1, (
            "a rollout was removed and then put, and is gone: writes were re-ordered"
        )

    def test_a_forgotten_rollout_takes_its_facts_along(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """After retention neither the record nor the facts remain, and other rollouts are left alone."""
        journal = journals.start()
        for rollout_id in (ROLLOUT, OTHER_ROLLOUT):
            journal.commit(
                [
                    kept(record_after(CONVERGES, rollout_id)),
                    *appended(*CONVERGES, rollout_id=rollout_id),
                ]
            )
        journal.commit([RemoveRollout(ROLLOUT)])
        journal = journals.crash()
        rollouts = {row.rollout_id for row in journal.unsent(100)}
        assert rollouts == {OTHER_ROLLOUT}, (
            f"{ROLLOUT} was forgotten, and the facts are those of {rollouts}"
        )
        assert set(journal.last_seqs()) == {OTHER_ROLLOUT}, (
            f"`last_seqs` knows {set(journal.last_seqs())}"
        )
        found = [rollout.record.rollout_id for rollout in journal.load().rollouts]
        assert found == [OTHER_ROLLOUT], (
            f"{ROLLOUT} was forgotten, and the records are those of {found}"
        )

    def test_a_year_of_rollouts_that_were_forgotten_leaves_nothing_to_load(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A release a week, each acknowledged and forgotten: the last one is what a start reads."""
        journal = journals.start()
        weeks = [RolloutId(f"stable@week-{week}") for week in range(WEEKS)]
        for week, rollout_id in enumerate(weeks):
            journal.commit(
                [
                    kept(record_after(CONVERGES, rollout_id)),
                    *appended(*CONVERGES, rollout_id=rollout_id),
                ]
            )
            sent = tuple(row.row_id for row in journal.unsent(100))
            forgotten = [RemoveRollout(each) for each in weeks[max(0, week - 1) : week]]
            journal.commit([MarkAcknowledged(sent), *forgotten])
        journal = journals.crash()
        found = [rollout.record.rollout_id for rollout in journal.load().rollouts]
        assert found == weeks[-1:], f"all but the last were forgotten, and a start reads {found}"
        assert set(journal.last_seqs()) == set(weeks[-1:]), (
            f"all but the last were forgotten, and `last_seqs` knows {set(journal.last_seqs())}"
        )
        left = journal.unsent(100)
        assert left == (), f"all facts were acknowledged, and these wait: {left}"

    def test_a_number_of_a_row_is_not_given_twice(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """An answer that comes after its rollout was removed marks no fact that was appended since."""
        journal = journals.start()
        journal.commit([kept(record_after(CONVERGES)), *appended(*CONVERGES)])
        late = tuple(row.row_id for row in journal.unsent(100))
        journal.commit([RemoveRollout(ROLLOUT)])
        for later in (journal, journals.crash()):
            later.commit(appended(*CONVERGES, rollout_id=OTHER_ROLLOUT))
            later.commit([MarkAcknowledged(late), MarkRefused(late[-1], "breaks a rule")])
            found = _unsent_seqs(later)
            assert found == [fact.seq for fact in CONVERGES], (
                f"rows {late} were removed with {ROLLOUT}, and marking them marked facts of {OTHER_ROLLOUT}, of which "
                f"{found} are unsent: never give the number of a removed row to another"
            )
            later.commit([RemoveRollout(OTHER_ROLLOUT)])

    def test_a_commit_that_cannot_be_written_says_so(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """On a full disk `commit` raises and changes nothing; the same commit succeeds when there is room."""
        journal = journals.start()
        journal.commit([kept(record_after(ROLLS_BACK[:5])), *appended(*ROLLS_BACK[:5])])
        many = [evolve(ROLLS_BACK[5], seq=seq) for seq in range(6, FACTS_OF_A_FULL_DISK + 1)]
        with full_disk():
            is_refused = _is_refused(journal, appended(*many))
        found = len(journals.crash().unsent(FACTS_OF_A_FULL_DISK))
        if not is_refused:
            assert found == FACTS_OF_A_FULL_DISK, (
                f"the disk was full, `commit` returned, and after a crash {found} facts are there, "
                f"expected {FACTS_OF_A_FULL_DISK}: raise what fails, never swallow it"
            )
            return
        assert found == len(ROLLS_BACK[:5]), (
            "`commit` raised on a full disk, and a part of it was there"
        )
        journals.crash().commit(appended(*many))
        found = len(journals.crash().unsent(FACTS_OF_A_FULL_DISK))
        assert found == FACTS_OF_A_FULL_DISK, (
            f"after a full disk the same commit returned, and after a crash {found} facts are there"
        )

    def test_a_commit_whose_answer_is_lost_is_settled(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """`commit` finds out what became of it: it returns if the facts are there, and raises if they are not."""
        journal = journals.start()
        journal.commit(appended(CONVERGES[0]))
        self.lose_the_next_answer()
        is_refused = _is_refused(journal, appended(CONVERGES[1]))
        found = _unsent_seqs(journals.crash())
        assert found == [1, 2][: 2 - is_refused], (
            f"the answer of a commit was lost, `commit` {'raised' if is_refused else 'returned'}, and facts {found} "
            "are there: look what is there before you say so"
        )
        try:
            journal.commit(appended(CONVERGES[len(found)]))
        except Exception as error:
            raise AssertionError(
                f"after an answer that was lost, the next commit failed: {error!r}; go on from what is there"
            ) from error

    # The disk.

    def test_what_was_committed_is_on_the_disk(
        self, journals: Restarts[BlockingJournal], tmp_path: Path
    ) -> None:
        """When `commit` returns, a power failure loses nothing: every file is flushed (`fsync`)."""
        if not (self.is_on_disk and tells_unflushed(tmp_path)):
            pytest.skip("this kernel or file system does not tell what is not on the disk yet")
        journals.start().commit([kept(record_after(CONVERGES)), *appended(*CONVERGES)])
        found = unflushed_files(tmp_path)
        assert found == [], (
            f"`commit` returned, and a part of {', '.join(found)} is not flushed: call `fsync` before you return"
        )

    def test_a_process_that_is_killed_in_a_write_leaves_all_of_it_or_nothing(
        self, tmp_path: Path
    ) -> None:
        """Wherever in a write it is killed, the next process reads the commit whole, or nothing of it."""
        if not self.is_on_disk:
            pytest.skip("this journal is not on the disk")
        few: tuple[Write, ...] = (kept(record_after(ROLLS_BACK[:5])), *appended(*ROLLS_BACK[:5]))
        many = appended(*(evolve(ROLLS_BACK[5], seq=seq) for seq in range(6, FACTS_OF_A_FULL_DISK)))

        async def begin(directory: Path) -> None:
            journal = await self.open_journal(directory)
            await journal.commit(many)
            end_here()  # without closing anything

        home = tmp_path / "home"
        home.mkdir()
        with self.opened_in(home) as journals:
            journals.start().commit(few)
        for copy in killed_copies(
            home, tmp_path, lambda copy: anyio.run(begin, copy, backend=self.backend)
        ):
            try:
                with self.opened_in(copy) as journals:
                    found = len(journals.start().unsent(FACTS_OF_A_FULL_DISK))
            except Exception as error:
                raise AssertionError(
                    f"a process was {copy.name} bytes of a file, and the next one cannot read what it left: {error!r}; "
                    "never write in place"
                ) from error
            assert found in (5, FACTS_OF_A_FULL_DISK - 1), (
                f"a process was {copy.name} bytes of a file, and the next one finds {found} facts, of a commit of "
                f"{len(many)} after 5"
            )

    # Threads.

    def test_commits_and_questions_come_from_any_thread(
        self, journals: Restarts[BlockingJournal]
    ) -> None:
        """A kernel commits in a worker thread, a sender and a heartbeat ask in others."""
        journal = journals.start()
        asked: dict[str, Callable[[], object]] = {
            "commit": lambda: journal.commit(
                [kept(record_after(CONVERGES)), *appended(*CONVERGES)]
            ),
            "unsent": lambda: journal.unsent(10),
            "last_seqs": journal.last_seqs,
            "load": journal.load,
        }
        for what, ask in asked.items():
            error = error_in_thread(ask)
            assert error is None, f"`{what}` in another thread raised {error!r}"


class _Looks(Sequence[Write]):
    """Writes that, whenever one of them is taken, have somebody ask what is unsent."""

    def __init__(self, journal: BlockingJournal, writes: Sequence[Write]) -> None:
        self.seen: set[int] = set()
        self._journal = journal
        self._writes = writes

    @overload
    def __getitem__(self, index: int) -> Write: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Write]: ...
    def __getitem__(self, index: int | slice) -> Write | Sequence[Write]:
        self._look()
        return self._writes[index]

    def __len__(self) -> int:
        return len(self._writes)

    def _look(self) -> None:
        # A journal may well let this wait until the commit is over: then there is nothing to see.
        thread = threading.Thread(target=self._ask, daemon=True)
        thread.start()
        thread.join(LOOK_SECONDS_MAX)

    def _ask(self) -> None:
        self.seen.update(_unsent_seqs(self._journal))


def _unsent_seqs(journal: BlockingJournal) -> list[int]:
    return [row.fact.seq for row in journal.unsent(100)]


def _is_refused(journal: BlockingJournal, writes: Sequence[Write]) -> bool:
    try:
        journal.commit(writes)
    except Exception:
        return True
    return False
