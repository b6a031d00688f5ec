"""`nixfleet status`: how the rollouts of a control plane stand, or those of one host by its journal. Reads only."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from nixfleet_cli.shared.database import database_argument, reading
from nixfleet_cli.shared.journal_status import is_journal, told_journal
from nixfleet_cli.shared.sections import TIME, Row, section
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.narration import short
from nixfleet_control_plane.store.queries import (
    Quarantined,
    Waiting,
    deferrals,
    quarantines,
    rollouts,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutRecord


@click.command()
@database_argument
def status(database: Path) -> None:
    """Show every rollout with its hosts by state, who waits for what, quarantines, holds and refused events.

    Of an agent's journal: its host's rollouts, what is under way, what waits to be sent and what was refused.
    DB may be in use: what is shown is one moment of it.

    Exit codes: 0 shown; 1 a row of it is damaged; 2 DB cannot be read.
    """
    if is_journal(database):
        click.echo(told_journal(database))
    else:
        click.echo(_told_control_plane(database))


def _told_control_plane(database: Path) -> str:
    with reading(database) as connection:
        # Host records are written behind, so their table lags; what the log comes to does not.
        state = Follower(connection).read_all()
        sections = (
            told_rollouts(connection, state),
            section("waiting", map(_waiting, deferrals(connection))),
            section("quarantined", map(_quarantined, quarantines(connection))),
            section("held by operators", _holds(state)),
            section("refused events", _refused(state)),
        )
    return "\n\n".join(sections)


def told_rollouts(connection: sqlite3.Connection, state: State) -> str:
    """Return every rollout, oldest first, with its hosts by state. state: what the log comes to."""
    return section("rollouts", (_rollout(state, each) for each in rollouts(connection)))


def _rollout(state: State, record: RolloutRecord) -> Row:
    if record.rollout_id not in state.manifests:
        return record.rollout_id, record.state, "", "its hosts are forgotten"
    last_wave = state.view.terms(record.rollout_id).last_wave
    counts = Counter(host.state for host in state.view.hosts_of(record.rollout_id))
    hosts = ", ".join(f"{counts[each]} {each}" for each in HostState if counts[each])
    excused = f" ({len(record.excused_hosts)} excused)" if record.excused_hosts else ""
    return (
        record.rollout_id,
        record.state,
        f"wave {record.current_wave} of 0–{last_wave}",
        hosts + excused,
    )


def _waiting(waiting: Waiting) -> Row:
    since = f"since {waiting.since:{TIME}}"
    return waiting.hostname, waiting.rollout_id, f"{waiting.gate}: {waiting.reason}", since


def _quarantined(row: Quarantined) -> Row:
    cleared = "retired by an operator" if row.cleared else ""
    since = f"since {row.since:{TIME}}"
    return (
        row.channel,
        short(row.closure),
        since,
        f"log row {row.triggering_event_log_seq}",
        cleared,
    )


def _holds(state: State) -> Iterator[Row]:
    for pause in sorted(state.holds.values(), key=lambda pause: str(pause.scope)):
        yield str(pause.scope), pause.operator, pause.reason


def _refused(state: State) -> Iterator[Row]:
    """What hosts said that did not apply; they keep it, marked with the same reason."""
    for (rollout_id, hostname, seq), reason in sorted(state.refused.items()):
        yield hostname, rollout_id, f"seq {seq}", reason
