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
from nixfleet_cli.shared.file_versions import versions_in
from nixfleet_cli.shared.output import ROWS_MAX, Output, Row, section, shown_time
from nixfleet_proto.codec import DecodeError
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused


def is_journal(path: Path) -> bool:
    """Return whether an agent's journal is at `path`. Raises: Unusable, when it is one of a newer version."""
    try:
        open_journal_for_reading(path).close()
    except (SchemaRefused, NotUpgraded) as error:
        raise Unusable(str(error)) from error
    except (FileNotFoundError, NotOurDatabase, sqlite3.Error):
        return False  # What is wrong with it then is for the reader of the other kind to say.
    return True


def show_journal(output: Output, path: Path) -> None:
    """Print what the journal at `path` holds. Raises: Findings, Unusable."""
    try:
        with closing(open_journal_for_reading(path)) as journal:
            journal.execute("BEGIN")
            snapshot = snapshot_of(journal)
            output.show(_value(journal, snapshot), _lines(journal, snapshot))
    except DecodeError as error:
        raise Findings(f"{path}: a row of the journal is damaged: {error}") from error
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}") from error


def _oldest_first(snapshot: JournalSnapshot) -> list[LocalRollout]:
    return sorted(snapshot.rollouts, key=lambda rollout: str(rollout.record.dispatched_at))


def _lines(journal: sqlite3.Connection, snapshot: JournalSnapshot) -> Iterator[str]:
    yield from section("rollouts of this host", map(_rollout, _oldest_first(snapshot)))
    for title, rows in (
        ("under way", map(_intent, snapshot.intents)),
        ("waiting to be sent", map(_waiting, waiting_facts(journal))),
        ("refused by the control plane", map(_refused, refused_facts(journal))),
    ):
        yield ""
        yield from section(title, rows, ROWS_MAX)
    yield ""
    yield versions_in(journal).line


def _rollout(rollout: LocalRollout) -> Row:
    record = rollout.record
    over = f"superseded {shown_time(rollout.closed_at)}" if rollout.closed_at else ""
    adopted = f"up to fact {rollout.taken_over_seq} adopted from the control plane"
    return (
        record.rollout_id,
        record.state,
        short(record.target_closure),
        f"{record.last_event_seq} facts",
        ", ".join(filter(None, (over, adopted if rollout.taken_over_seq else ""))),
    )


def _intent(intent: Intent) -> Row:
    return intent.rollout_id, f"{intent.kind.value} to {short(intent.closure)}"


def _waiting(waiting: WaitingFacts) -> Row:
    count = f"{waiting.count} fact{'' if waiting.count == 1 else 's'}"
    return waiting.rollout_id, count, f"since {shown_time(waiting.since)}"


def _refused(refused: RefusedFact) -> Row:
    fact = f"fact {refused.fact.seq}, {type(refused.fact).__name__}"
    return refused.rollout_id, fact, f"of {shown_time(refused.emitted_at)}", refused.reason


def _value(journal: sqlite3.Connection, snapshot: JournalSnapshot) -> object:
    return {
        **versions_in(journal).value,
        "rollouts": [
            {
                "rolloutId": rollout.record.rollout_id,
                "state": rollout.record.state,
                "targetClosure": rollout.record.target_closure,
                "lastEventSeq": rollout.record.last_event_seq,
                "supersededAt": rollout.closed_at,
                "adoptedSeq": rollout.taken_over_seq or None,
            }
            for rollout in _oldest_first(snapshot)
        ],
        "underWay": [
            {"rolloutId": each.rollout_id, "kind": each.kind.value, "closure": each.closure}
            for each in snapshot.intents
        ],
        "waitingToBeSent": [
            {"rolloutId": each.rollout_id, "count": each.count, "since": each.since}
            for each in waiting_facts(journal)
        ],
        "refused": [
            {
                "rolloutId": each.rollout_id,
                "seq": each.fact.seq,
                "fact": type(each.fact).__name__,
                "emittedAt": each.emitted_at,
                "reason": each.reason,
            }
            for each in refused_facts(journal)
        ],
    }
