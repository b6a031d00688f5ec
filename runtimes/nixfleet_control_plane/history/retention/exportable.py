"""Which rows at the beginning of a log nothing live needs, and what needs the first of the others.

What live things need, and so stays: everything from the opening of the oldest rollout that is not pruned on, every
artefact in force, outstanding failure, quarantine, hold, warrant, dispatch and deferral. Identities and the ids of
pruned rollouts stay in their views, without their rows.
Source: docs/spec/runtimes.md, Retention.
"""

from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_control_plane.history.retention.log_start import first_seq_of
from nixfleet_control_plane.messages.entry_codec import text_of, time_of
from nixfleet_control_plane.store.tables import Tables
from nixfleet_runtime.kernel.visible import visible
from nixfleet_state_machine.rollout.state import RolloutState

_LIVE: Final = f"state != '{RolloutState.PRUNED.value}'"
_NEEDED: Final = {
    "a rollout that is not pruned": "SELECT opened_event_log_seq,"
    " 'the rollout ' || rollout_id || ', which is not pruned'"
    f" FROM rollouts WHERE {_LIVE}",
    "an artefact in force": "SELECT event_log_seq, name || ', which is in force' FROM artefacts",
    "an outstanding failure": "SELECT event_log_seq, 'a failure of ' || probe_name || ' on ' || host_id"
    " FROM probe_failures WHERE cleared_by_seq IS NULL"
    f" AND rollout_id IN (SELECT rollout_id FROM rollouts WHERE {_LIVE})",
    "a quarantine": "SELECT triggering_event_log_seq, 'the quarantine of ' || closure_hash || ' in ' || channel"
    " FROM quarantined_closures WHERE cleared_by_seq IS NULL",
    "a hold": "SELECT event_log_seq, 'the hold of ' || scope || ' by ' || source FROM holds",
    "a warrant": "SELECT event_log_seq, 'the warrant ' || order_id FROM warrants",
    "a dispatch": "SELECT event_log_seq, 'the dispatch of ' || hostname FROM dispatch_queue",
    "a host that waits": "SELECT event_log_seq, 'what ' || hostname || ' waits for' FROM deferrals",
    "the slots of a budget": "SELECT event_log_seq, 'the slots of ' || budget FROM beginnings",
    # The last row is what the next one continues.
    "the next row": "SELECT max(seq), 'the last row of the log' FROM event_log HAVING max(seq) IS NOT NULL",
}
"""By what needs rows, in words that strangers may read, a query for their numbers, and for what it is by its name."""


@frozen
class Need:
    """The first row that something live needs. by: what that is, by its name; kind: without it."""

    seq: int
    by: str
    kind: str


@frozen
class Exportable:
    """Rows that nothing live needs: from `first_seq` to `last_seq`, none if that is lower.

    first_needed_seq: the first row that something live needs, and needed_by: what that is, in words.
    """

    first_seq: int
    last_seq: int
    first_needed_seq: int
    needed_by: str = ""

    @property
    def rows(self) -> int:
        return max(0, self.last_seq - self.first_seq + 1)


def month_of(at: datetime) -> datetime:
    """Return the beginning of the month of `at`, in the zone of `at`."""
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def month_after(month: datetime) -> datetime:
    """Return the beginning of the next month. month: the beginning of one."""
    return month_of(month + timedelta(days=31))


def exportable(connection: Tables, before: datetime, *, whole_months: bool = False) -> Exportable:
    """Return the rows older than `before` that nothing live needs.

    whole_months: only those of months (UTC) that are older than `before` and of which nothing live needs a row.
    """
    need = first_need(connection)
    if whole_months:
        before = min(month_of(before), _month_of_row(connection, need.seq, before))
    (young,) = connection.execute(
        "SELECT min(seq) FROM event_log WHERE ts >= ?", (text_of(before),)
    ).fetchone()
    last = need.seq - 1 if young is None else min(need.seq, young) - 1
    return Exportable(first_seq_of(connection), last, need.seq, need.by)


def first_need(connection: Tables) -> Need:
    """Return what keeps the log from being exported further. Of an empty log, a need of nothing for row 1."""
    needs = list[Need]()
    for kind, query in _NEEDED.items():
        row = connection.execute(f"SELECT * FROM ({query}) AS needed ORDER BY 1 LIMIT 1").fetchone()
        if row is not None:
            needs.append(Need(row[0], visible(row[1]), kind))
    return min(needs, key=lambda need: need.seq, default=Need(1, "", ""))


def _month_of_row(connection: Tables, seq: int, default: datetime) -> datetime:
    row = connection.execute("SELECT ts FROM event_log WHERE seq = ?", (seq,)).fetchone()
    return default if row is None else month_of(time_of(row[0]))
