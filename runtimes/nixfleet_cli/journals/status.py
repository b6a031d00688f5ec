"""How one host stands, by its agent's journal. Reads only, also while the agent runs."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import JournalSnapshot, snapshot_of
from nixfleet_agent.journal.queries import (
    RefusedFact,
    WaitingFacts,
    lived_facts,
    refused_facts,
    waiting_facts,
)
from nixfleet_agent.messages.inputs import Intent
from nixfleet_cli.journals.opening import reading_journal
from nixfleet_cli.journals.standing import ProbeStanding, Standing, standing_of
from nixfleet_cli.shared.file_versions import versions_in
from nixfleet_cli.shared.output import ROWS_MAX, Output, Row, section, shown_time
from nixfleet_runtime.fact_words import short


def show_journal(output: Output, path: Path) -> None:
    """Print what the journal at `path` holds. Raises: Findings, Unusable."""
    with reading_journal(path) as journal:
        snapshot = snapshot_of(journal)
        standing = standing_of(snapshot, lived_facts(journal))
        output.show(_value(journal, snapshot, standing), _lines(journal, snapshot, standing))


def _oldest_first(snapshot: JournalSnapshot) -> list[LocalRollout]:
    return sorted(snapshot.rollouts, key=lambda rollout: str(rollout.record.dispatched_at))


def _lines(
    journal: sqlite3.Connection, snapshot: JournalSnapshot, standing: Standing | None
) -> Iterator[str]:
    if standing is not None:
        yield from section("this host", _host(standing))
        yield ""
        yield from section(
            f"probes of {standing.rollout.record.rollout_id}", map(_probe, standing.probes)
        )
        yield ""
        yield from section(f"stages of {standing.rollout.record.rollout_id}", _stages(standing))
        yield ""
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


def _host(standing: Standing) -> Iterator[Row]:
    record = standing.rollout.record
    yield "runs", "not known" if standing.runs is None else short(standing.runs)
    yield "should run", f"{short(record.target_closure)}, by {record.rollout_id}"
    yield "waits for", standing.waits_for or "nothing: it has converged"


def _probe(probe: ProbeStanding) -> Row:
    since = f"since {shown_time(probe.since)}"
    return probe.name, probe.mode.value, probe.status.value, since, probe.reason or ""


def _stages(standing: Standing) -> Iterator[Row]:
    """The stages with the seconds since the one before."""
    before: datetime | None = None
    for stage in standing.stages:
        took = "" if before is None else f"after {(stage.at - before).total_seconds():.0f} s"
        yield stage.name, shown_time(stage.at), took
        before = stage.at


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
    begun = "not begun yet" if not intent.attempts else f"begun {intent.attempts} time(s)"
    return intent.rollout_id, f"{intent.kind.value} to {short(intent.closure)}", begun


def _waiting(waiting: WaitingFacts) -> Row:
    count = f"{waiting.count} fact{'' if waiting.count == 1 else 's'}"
    return waiting.rollout_id, count, f"since {shown_time(waiting.since)}"


def _refused(refused: RefusedFact) -> Row:
    fact = f"fact {refused.fact.seq}, {type(refused.fact).__name__}"
    return refused.rollout_id, fact, f"of {shown_time(refused.emitted_at)}", refused.reason


def _value(
    journal: sqlite3.Connection, snapshot: JournalSnapshot, standing: Standing | None
) -> object:
    return {
        **versions_in(journal).value,
        "host": None if standing is None else _host_value(standing),
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
            {
                "rolloutId": each.rollout_id,
                "kind": each.kind.value,
                "closure": each.closure,
                "attempts": each.attempts,
            }
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


def _host_value(standing: Standing) -> object:
    record = standing.rollout.record
    return {
        "hostname": record.hostname,
        "rolloutId": record.rollout_id,
        "runs": standing.runs,
        "shouldRun": record.target_closure,
        "waitsFor": standing.waits_for,
        "probes": [
            {
                "name": each.name,
                "mode": each.mode,
                "status": each.status,
                "since": each.since,
                "reason": each.reason,
            }
            for each in standing.probes
        ],
        "stages": [{"stage": each.name, "at": each.at} for each in standing.stages],
    }
