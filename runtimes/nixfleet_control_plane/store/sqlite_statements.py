"""Maps writes to SQL. The only module that knows the tables of the derived views and of the record cache.

`history.rebuild` uses it too, on an empty copy.
"""

from typing import Final, TypeAlias, assert_never

from nixfleet_control_plane.messages.entry_codec import text_of
from nixfleet_control_plane.messages.writes import (
    CacheWrite,
    ClearProbeFailure,
    IdentityWrite,
    OpenProbeFailure,
    PutArtefact,
    PutBeginning,
    PutDeferral,
    PutDispatch,
    PutEnrolledHost,
    PutHold,
    PutHostRecord,
    PutQuarantine,
    PutRefusedEvent,
    PutRevocation,
    PutRollout,
    PutUsedNonce,
    PutWarrant,
    RemoveArtefact,
    RemoveBeginning,
    RemoveBeginnings,
    RemoveDeferral,
    RemoveDispatch,
    RemoveHold,
    RemoveHostRecords,
    RemoveRefusedEvents,
    RemoveRevocations,
    RemoveUsedNonce,
    RemoveWarrants,
    RetireQuarantineRow,
    SetRecordsThrough,
    ViewWrite,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import encode_host_record, encode_rollout_record

Value: TypeAlias = str | int | bytes | None
Statement: TypeAlias = tuple[str, tuple[Value, ...]]

_PUT_HOST_RECORD: Final = (
    "INSERT INTO host_rollout_records VALUES (?,?,?,?,?,?) ON CONFLICT DO UPDATE"
    " SET state = excluded.state, record = excluded.record,"
    " last_event_seq = excluded.last_event_seq, event_log_seq = excluded.event_log_seq"
    " WHERE excluded.event_log_seq >= event_log_seq"
)
_REMOVE_BEGINNING: Final = (
    "DELETE FROM beginnings WHERE budget = ?1 AND event_log_seq ="
    " (SELECT min(event_log_seq) FROM beginnings WHERE budget = ?1 AND began_at = ?2)"
)


def statement_of(write: ViewWrite | CacheWrite) -> Statement:
    """Return the statement that carries out `write`."""
    match write:
        case PutHostRecord():
            return _put_host_record(write)
        case SetRecordsThrough():
            return "INSERT OR REPLACE INTO host_records_through VALUES (1, ?)", (
                write.event_log_seq,
            )
        case RemoveHostRecords():
            return _removal("host_rollout_records", write.rollout_id, write.hostname)
        case _:
            return view_statement(write)


def view_statement(write: ViewWrite) -> Statement:
    """Return the statement that applies `write` to its derived view."""
    match write:
        case PutRollout():
            return _put_rollout(write)
        case OpenProbeFailure():
            return "INSERT INTO probe_failures VALUES (?,?,?,?,?,?,?,NULL)", (
                write.event_log_seq,
                write.rollout_id,
                write.host_id,
                write.probe_name,
                write.control_id,
                write.framework,
                text_of(write.observed_at),
            )
        case ClearProbeFailure():
            return (
                "UPDATE probe_failures SET cleared_by_seq = ?"
                " WHERE event_log_seq = ? AND probe_name = ? AND control_id IS ? AND framework IS ?"
                " AND cleared_by_seq IS NULL",
                (
                    write.cleared_by_seq,
                    write.event_log_seq,
                    write.probe_name,
                    write.control_id,
                    write.framework,
                ),
            )
        case PutQuarantine():
            # Quarantined again after retirement: the row has the latest quarantine, the log has all.
            return "INSERT OR REPLACE INTO quarantined_closures VALUES (?,?,?,?,NULL)", (
                write.channel,
                write.closure,
                text_of(write.quarantined_at),
                write.triggering_event_log_seq,
            )
        case RetireQuarantineRow():
            return (
                "UPDATE quarantined_closures SET cleared_by_seq = ?"
                " WHERE channel = ? AND closure_hash = ?",
                (write.cleared_by_seq, write.channel, write.closure),
            )
        case PutDispatch():
            return _put_dispatch(write)
        case RemoveDispatch():
            return "DELETE FROM dispatch_queue WHERE hostname = ? AND rollout_id = ?", (
                write.hostname,
                write.rollout_id,
            )
        case PutDeferral():
            return "INSERT OR REPLACE INTO deferrals VALUES (?,?,?,?,?,?)", (
                write.deferral.host,
                write.deferral.rollout_id,
                write.deferral.gate.value,
                write.deferral.reason,
                text_of(write.since),
                write.event_log_seq,
            )
        case RemoveDeferral():
            return "DELETE FROM deferrals WHERE hostname = ? AND rollout_id = ?", (
                write.host,
                write.rollout_id,
            )
        case PutBeginning():
            return "INSERT INTO beginnings VALUES (?,?,?)", (
                write.budget,
                text_of(write.began_at),
                write.event_log_seq,
            )
        case RemoveBeginnings():
            return "DELETE FROM beginnings WHERE budget = ? AND began_at <= ?", (
                write.budget,
                text_of(write.begun_by),
            )
        case RemoveBeginning():
            # Of those at one time any one is as good as another.
            return _REMOVE_BEGINNING, (write.budget, text_of(write.began_at))
        case PutHold():
            return _put_hold(write)
        case RemoveHold():
            return "DELETE FROM holds WHERE scope = ? AND source = ?", (
                str(write.scope),
                str(write.source),
            )
        case PutWarrant():
            return "INSERT INTO warrants VALUES (?,?,?,?)", (
                write.order_id,
                write.rollout_id,
                write.warrant,
                write.event_log_seq,
            )
        case RemoveWarrants():
            return "DELETE FROM warrants WHERE rollout_id = ?", (write.rollout_id,)
        case PutArtefact():
            return "INSERT OR REPLACE INTO artefacts VALUES (?,?,?)", (
                write.name,
                write.rollout_id,
                write.event_log_seq,
            )
        case RemoveArtefact():
            return "DELETE FROM artefacts WHERE name = ?", (write.name,)
        case PutRefusedEvent():
            # Written again, with a later row, when the host was resumed.
            return "INSERT OR REPLACE INTO refused_events VALUES (?,?,?,?,?)", (
                write.rollout_id,
                write.hostname,
                str(write.seq),
                write.reason,
                write.event_log_seq,
            )
        case RemoveRefusedEvents():
            return _removal("refused_events", write.rollout_id, write.hostname)
        case _:
            return _identity_statement(write)


def _identity_statement(write: IdentityWrite) -> Statement:
    match write:
        case PutEnrolledHost():
            return "INSERT OR REPLACE INTO hosts VALUES (?,?,?,?)", (
                write.host.hostname,
                write.host.public_key.public_key,
                text_of(write.host.enrolled_at),
                write.event_log_seq,
            )
        case PutUsedNonce():
            return "INSERT INTO token_replay VALUES (?,?,?,?,?)", (
                write.used.nonce,
                write.used.hostname,
                write.used.public_key.public_key,
                text_of(write.used.expires_at),
                write.event_log_seq,
            )
        case RemoveUsedNonce():
            return "DELETE FROM token_replay WHERE nonce = ?", (write.nonce,)
        case PutRevocation():
            return "INSERT INTO revocations VALUES (?,?,?,?)", (
                write.revocation.hostname,
                text_of(write.revocation.not_before),
                write.revocation.reason,
                write.event_log_seq,
            )
        case RemoveRevocations():
            return "DELETE FROM revocations", ()
        case _:
            assert_never(write)


def _removal(table: str, rollout_id: RolloutId, hostname: str | None) -> Statement:
    statement = f"DELETE FROM {table} WHERE rollout_id = ?"
    if hostname is None:
        return statement, (rollout_id,)
    return f"{statement} AND hostname = ?", (rollout_id, hostname)


def _put_host_record(write: PutHostRecord) -> Statement:
    record = write.record
    # A cached record never goes back: a start would believe it, and not read the log rows that came after it.
    return _PUT_HOST_RECORD, (
        record.rollout_id,
        record.hostname,
        record.state.value,
        encode_host_record(record).decode(),
        str(record.last_event_seq),
        write.event_log_seq,
    )


def _put_rollout(write: PutRollout) -> Statement:
    record = write.record
    return "INSERT OR REPLACE INTO rollouts VALUES (?,?,?,?,?,?,?,?,?,?,?)", (
        record.rollout_id,
        record.channel,
        record.target_ref,
        record.state.value,
        record.current_wave,
        record.opened_event_log_seq,
        record.last_transition_event_log_seq,
        text_of(record.opened_at),
        None if record.terminal_at is None else text_of(record.terminal_at),
        None if record.superseded_at is None else text_of(record.superseded_at),
        encode_rollout_record(record).decode(),
    )


def _put_dispatch(write: PutDispatch) -> Statement:
    dispatch = write.dispatch
    return "INSERT OR REPLACE INTO dispatch_queue VALUES (?,?,?,?,?,?,?,?)", (
        dispatch.hostname,
        dispatch.rollout_id,
        dispatch.target_closure,
        text_of(dispatch.soak_due_at),
        text_of(dispatch.enqueued_at),
        write.event_log_seq,
        dispatch.attempt,
        text_of(write.queued_at),
    )


def _put_hold(write: PutHold) -> Statement:
    hold = write.hold
    return "INSERT OR REPLACE INTO holds VALUES (?,?,?,?,?,?)", (
        str(hold.scope),
        str(hold.source),
        hold.reason,
        None if hold.until is None else text_of(hold.until),
        None if hold.since is None else text_of(hold.since),
        write.event_log_seq,
    )
