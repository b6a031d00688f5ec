"""A COMMIT whose answer is lost: the journal finds out what became of it, and the agent goes on."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import (
    MarkAcknowledged,
    PutIntent,
    PutOrder,
    RemoveIntent,
    RemoveRollout,
    SetRolloutAside,
    Write,
)
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown
from nixfleet_testing.contracts.histories import (
    CONVERGES,
    OTHER_ROLLOUT,
    ROLLOUT,
    TARGET,
    at,
    record_after,
)
from nixfleet_testing.contracts.journal import appended, kept
from tests.support.lossy_connection import Lost, lossy

INTENT = Intent(1, IntentKind.SWITCH, ROLLOUT, TARGET)
COMMITS: dict[str, tuple[Write, ...]] = {
    "facts": appended(*CONVERGES),
    "facts and a record": (kept(record_after(CONVERGES)), *appended(*CONVERGES)),
    "an order": (PutOrder("order-1", ROLLOUT, at(3)),),
    "facts of a rollout that begins anew": (
        SetRolloutAside(ROLLOUT, at(9)),
        *appended(CONVERGES[0]),
    ),
}
"""Commits of which the journal has a trace."""
REPEATABLE: dict[str, tuple[Write, ...]] = {
    "an intent": (PutIntent(INTENT),),
    "an intent that is over": (PutIntent(INTENT), RemoveIntent(1)),
    "marks": (MarkAcknowledged((1, 2)),),
    "facts that are removed at once": (*appended(*CONVERGES), RemoveRollout(ROLLOUT)),
}
"""Commits that leave nothing which was not there before, and can be carried out twice."""


class LossyJournal(SqliteJournal):
    """A journal on connections that can lose a COMMIT."""

    def __init__(self, path: Path) -> None:
        self.can_be_opened = True
        self.connection_type = kind = lossy()
        super().__init__(path)
        self.losing = kind.losing

    def _open(self) -> sqlite3.Connection:
        if not self.can_be_opened:
            raise OSError("no such device")
        return super()._open()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[LossyJournal]:
    with closing(LossyJournal(tmp_path / "journal.sqlite")) as journal:
        yield journal


def _contents(path: Path) -> object:
    with closing(SqliteJournal(path)) as read:
        return read.load(), read.unsent(100)


def _contents_after(path: Path, commits: Sequence[Sequence[Write]]) -> object:
    with closing(SqliteJournal(path)) as journal:
        for writes in commits:
            journal.commit(writes)
    return _contents(path)


@pytest.mark.parametrize("writes", (COMMITS | REPEATABLE).values(), ids=COMMITS | REPEATABLE)
def test_a_commit_whose_answer_is_lost_is_found_and_the_next_one_succeeds(
    journal: LossyJournal, tmp_path: Path, writes: tuple[Write, ...]
) -> None:
    """`commit` returns, and the journal is as if the answer had come."""
    then = appended(*CONVERGES, rollout_id=OTHER_ROLLOUT)
    journal.losing.append(Lost.ANSWER)
    journal.commit(writes)
    journal.commit(then)

    found = journal.load(), journal.unsent(100)
    expected = _contents_after(tmp_path / "other.sqlite", (writes, then))
    assert _without_row_ids(found) == _without_row_ids(expected)
    assert _contents(tmp_path / "journal.sqlite") == found


@pytest.mark.parametrize("writes", COMMITS.values(), ids=COMMITS)
def test_a_commit_that_is_lost_with_its_answer_changes_nothing_and_the_same_one_succeeds(
    journal: LossyJournal, tmp_path: Path, writes: tuple[Write, ...]
) -> None:
    """`commit` raises what SQLite said."""
    journal.losing.append(Lost.COMMIT)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        journal.commit(writes)

    assert _contents(tmp_path / "journal.sqlite") == _contents_after(tmp_path / "other.sqlite", ())
    journal.commit(writes)
    assert (journal.load(), journal.unsent(100)) == _contents_after(
        tmp_path / "other.sqlite", (writes,)
    )


@pytest.mark.parametrize("writes", REPEATABLE.values(), ids=REPEATABLE)
def test_a_commit_without_a_trace_is_carried_out_when_it_is_lost(
    journal: LossyJournal, tmp_path: Path, writes: tuple[Write, ...]
) -> None:
    """Once more, in a new connection."""
    journal.losing.append(Lost.COMMIT)
    journal.commit(writes)

    expected = _contents_after(tmp_path / "other.sqlite", (writes,))
    assert (journal.load(), journal.unsent(100)) == expected


def test_an_answer_that_is_lost_twice_is_not_claimed(journal: LossyJournal) -> None:
    """What was to be carried out once more was lost too."""
    journal.losing.extend((Lost.ANSWER, Lost.ANSWER))
    with pytest.raises(OutcomeUnknown, match=r"journal\.sqlite: expected to find out"):
        journal.commit(REPEATABLE["an intent"])


def test_a_lost_answer_that_cannot_be_found_out_is_said(journal: LossyJournal) -> None:
    """Neither is claimed: that it is durable, nor that it is not."""
    journal.losing.append(Lost.ANSWER)
    journal.can_be_opened = False
    with pytest.raises(OutcomeUnknown, match=r"journal\.sqlite: .*no such device"):
        journal.commit(appended(*CONVERGES))


def _without_row_ids(contents: object) -> object:
    assert isinstance(contents, tuple)
    snapshot, rows = contents
    return snapshot, [(row.rollout_id, row.fact) for row in rows]
