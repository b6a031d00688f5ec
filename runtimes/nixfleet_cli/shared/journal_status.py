"""How one host stands, by its agent's journal. Reads only, also while the agent runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import JournalSnapshot, snapshot_of
from nixfleet_agent.journal.queries import (
    RefusedFact,
    WaitingFacts,
    open_journal_for_reading,
    refused_facts,
    waiting_facts,
)
from nixfleet_agent.messages.inputs import Intent
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.sections import TIME, Row, section
from nixfleet_control_plane.history.narration import short
from nixfleet_proto.codec import DecodeError
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaTooNew


def is_journal(path: Path) -> bool:
    """Return whether an agent's journal is at `path`. Raises: Unusable, when it is one of a newer version."""
    try:
        open_journal_for_reading(path).close()
    except SchemaTooNew as error:
        raise Unusable(str(error)) from error
    except (FileNotFoundError, NotOurDatabase, sqlite3.Error):
        return False  # Whose it is then, and what is wrong with it, is for another to say.
    return True


def told_journal(path: Path) -> str:
    """Return the sections about the journal at `path`. Raises: Findings, Unusable."""
    try:
        with closing(open_journal_for_reading(path)) as journal:
            journal.execute("BEGIN")
            snapshot = snapshot_of(journal)
            return "\n\n".join(_sections(journal, snapshot))
    except DecodeError as error:
        raise Findings(f"{path}: a row of the journal is damaged: {error}") from error
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}") from error


def _sections(journal: sqlite3.Connection, snapshot: JournalSnapshot) -> Iterator[str]:
    oldest_first = sorted(snapshot.rollouts, key=lambda it: str(it.record.dispatched_at))
    yield section("rollouts of this host", map(_rollout, oldest_first))
    yield section("under way", map(_intent, snapshot.intents))
    yield section("waiting to be sent", map(_waiting, waiting_facts(journal)))
    yield section("refused by the control plane", map(_refused, refused_facts(journal)))


def _rollout(rollout: LocalRollout) -> Row:
    record = rollout.record
    over = f"a newer one took over {rollout.closed_at:{TIME}}" if rollout.closed_at else ""
    taken = f"up to fact {rollout.taken_over_seq} by the control plane's word"
    return (
        record.rollout_id,
        record.state,
        short(record.target_closure),
        f"{record.last_event_seq} facts",
        ", ".join(filter(None, (over, taken if rollout.taken_over_seq else ""))),
    )


def _intent(intent: Intent) -> Row:
    return intent.rollout_id, f"{intent.kind.value} to {short(intent.closure)}"


def _waiting(waiting: WaitingFacts) -> Row:
    count = f"{waiting.count} fact{'' if waiting.count == 1 else 's'}"
    return waiting.rollout_id, count, f"since {waiting.since:{TIME}}"


def _refused(refused: RefusedFact) -> Row:
    what = f"fact {refused.fact.seq}, {type(refused.fact).__name__}"
    return refused.rollout_id, what, f"of {refused.emitted_at:{TIME}}", refused.reason
