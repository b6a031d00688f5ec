"""`nixfleet status`: the rollouts of a control plane, or those of one host by its agent's journal. Reads only."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import database_argument, reading
from nixfleet_cli.shared.journal_status import is_journal, show_journal
from nixfleet_cli.shared.output import Output, Row, printing, section, shown_time
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.narration import short
from nixfleet_control_plane.messages.inputs import PauseScope
from nixfleet_control_plane.store.queries import (
    Quarantined,
    Waiting,
    deferrals,
    quarantines,
    rollouts,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutRecord


@command()
@database_argument
@printing(
    "one object with rollouts, waiting, quarantined, paused and refusedEvents; "
    "of a journal: rollouts, underWay, waitingToBeSent and refused"
)
def status(output: Output, database: Path) -> None:
    """Show rollouts and what holds their hosts.

    DB is the database of a control plane: shows rollouts with their hosts by state, waiting hosts with the gate that
    holds them, quarantines, pauses and refused events. DB may also be an agent's journal: shows the rollouts of its
    host, the activation under way, and the facts that wait to be sent or were refused.

    DB may be in use; the result is one moment of it. Run the command as the owner of DB: even a reader of SQLite writes
    a small file beside it.

    Exit codes: 0 success; 1 a row is damaged; 2 DB cannot be read.
    """
    if is_journal(database):
        show_journal(output, database)
        return
    with reading(database) as connection:
        # Host records are written behind, so their table lags; the state of the log does not.
        state = Follower(connection).read_all()
        output.show(_value(connection, state), _lines(connection, state))


def _lines(connection: sqlite3.Connection, state: State) -> Iterator[str]:
    yield from rollout_lines(connection, state)
    for title, rows in (
        ("waiting", map(_waiting, deferrals(connection))),
        ("quarantined", map(_quarantined, quarantines(connection))),
        ("paused by operators", _pauses(state)),
        ("refused events", _refused(state)),
    ):
        yield ""
        yield from section(title, rows)


def rollout_lines(connection: sqlite3.Connection, state: State) -> Iterator[str]:
    """Yield every rollout, oldest first, with its hosts by state. state: at the end of the log."""
    return section("rollouts", (_rollout(state, each) for each in rollouts(connection)))


def _rollout(state: State, record: RolloutRecord) -> Row:
    if record.rollout_id not in state.manifests:
        return record.rollout_id, record.state, "", "host records pruned"
    last_wave = state.view.terms(record.rollout_id).last_wave
    hosts = ", ".join(f"{count} {each}" for each, count in _hosts_by_state(state, record).items())
    excused = f" ({len(record.excused_hosts)} excused)" if record.excused_hosts else ""
    return (
        record.rollout_id,
        record.state,
        f"wave {record.current_wave} of 0–{last_wave}",
        hosts + excused,
    )


def _hosts_by_state(state: State, record: RolloutRecord) -> Mapping[str, int]:
    counts = Counter(host.state for host in state.view.hosts_of(record.rollout_id))
    return {each.value: counts[each] for each in HostState if counts[each]}


def _waiting(waiting: Waiting) -> Row:
    reason = f"{waiting.gate}: {waiting.reason}"
    return waiting.hostname, waiting.rollout_id, reason, f"since {shown_time(waiting.since)}"


def _quarantined(row: Quarantined) -> Row:
    return (
        row.channel,
        short(row.closure),
        f"since {shown_time(row.since)}",
        f"log row {row.triggering_event_log_seq}",
        "retired by an operator" if row.cleared else "",
    )


def _pauses(state: State) -> Iterator[Row]:
    for pause in _sorted_pauses(state):
        yield str(pause.scope), pause.operator, pause.reason


def _sorted_pauses(state: State) -> Sequence[PauseScope]:
    return sorted(state.holds.values(), key=lambda pause: str(pause.scope))


def _refused(state: State) -> Iterator[Row]:
    """Facts that did not apply; the host keeps each, marked with the same reason."""
    for (rollout_id, hostname, seq), reason in sorted(state.refused.items()):
        yield hostname, rollout_id, f"seq {seq}", reason


def _value(connection: sqlite3.Connection, state: State) -> object:
    return {
        "rollouts": [_rollout_value(state, each) for each in rollouts(connection)],
        "waiting": [
            {
                "hostname": each.hostname,
                "rolloutId": each.rollout_id,
                "gate": each.gate,
                "reason": each.reason,
                "since": each.since,
            }
            for each in deferrals(connection)
        ],
        "quarantined": [
            {
                "channel": each.channel,
                "closure": each.closure,
                "since": each.since,
                "logRow": each.triggering_event_log_seq,
                "isRetired": each.cleared,
            }
            for each in quarantines(connection)
        ],
        "paused": [
            {"scope": str(pause.scope), "operator": pause.operator, "reason": pause.reason}
            for pause in _sorted_pauses(state)
        ],
        "refusedEvents": [
            {"hostname": hostname, "rolloutId": rollout_id, "seq": seq, "reason": reason}
            for (rollout_id, hostname, seq), reason in sorted(state.refused.items())
        ],
    }


def _rollout_value(state: State, record: RolloutRecord) -> object:
    is_pruned = record.rollout_id not in state.manifests
    last_wave = None if is_pruned else state.view.terms(record.rollout_id).last_wave
    return {
        "rolloutId": record.rollout_id,
        "channel": record.channel,
        "state": record.state,
        "currentWave": record.current_wave,
        "lastWave": last_wave,
        "excusedHosts": sorted(record.excused_hosts),
        "hostsByState": None if is_pruned else _hosts_by_state(state, record),
    }
