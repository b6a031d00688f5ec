"""Encodes log entries as rows and decodes them. The payload is JSON; host, rollout and signature have their own
columns.

Times are text of a fixed width, so that text order is time order.
Source: docs/spec/runtimes.md, Store.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias, TypeVar, assert_never, get_args

import cattrs
import orjson
from attrs import asdict, frozen

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    EnrollmentSeen,
    Entry,
    FactRefused,
    FactReported,
    FactsReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    Line,
    LoggedEntry,
    LogRow,
    Planned,
    Returned,
    RolloutMoved,
    Stopped,
    fact_reported,
    facts_reported,
    logged_entry,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import (
    decode_event,
    decode_signed_token,
    encode_event,
    encode_signed_token,
)
from nixfleet_proto.codec.wire import facts_of_payload
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.storage.record_codec import (
    decode_gate_decision,
    decode_plan_action,
    decode_rollout_event,
    encode_gate_decision,
    encode_plan_action,
    encode_rollout_event,
)
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.holds.hold import HoldBegan, HoldEnded, HoldEvent
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
    parse_scope,
)
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
    subject_of,
)
from nixfleet_state_machine.shards.channel_seen import ChannelSeen

__all__ = ["DamagedRow", "entry_of", "row_of", "text_of", "time_of"]

T = TypeVar("T")


class DamagedRow(NixfleetError):
    """This version cannot read a row of the log. Attributes: `seq`, `kind`, `problem`."""

    def __init__(self, seq: int, kind: str, problem: str) -> None:
        super().__init__(seq, kind, problem)
        self.seq = seq
        self.kind = kind
        self.problem = problem

    def __str__(self) -> str:
        return f"event_log row {self.seq} ({self.kind}) cannot be read: {self.problem}"


@lru_cache(maxsize=64)  # an input can cause many rows, all with the same time
def text_of(at: datetime) -> str:
    """Return `at` in UTC with six fractional digits, the form used in every table."""
    text = orjson.dumps(at.astimezone(UTC), option=orjson.OPT_UTC_Z)[1:-1].decode()
    return text if at.microsecond else f"{text[:-1]}.000000Z"


def time_of(text: str) -> datetime:
    """Return the time that `text` stands for; the inverse of `text_of`."""
    return datetime.fromisoformat(text)


def row_of(seq: int, at: datetime, entry: Entry) -> LogRow:
    """Return the row that holds `entry`."""
    if isinstance(entry, FactsReported):
        return _facts_row(seq, at, entry)
    kind, host_id, rollout_id, signature = _columns(entry)
    payload = _payload(entry).decode()
    return LogRow(seq, text_of(at), kind, host_id, rollout_id, payload, signature)


def entry_of(row: LogRow) -> LoggedEntry:
    """Return the decoded entry of `row`, with its number and time. Raises: DamagedRow."""
    try:
        return logged_entry(row.seq, time_of(row.ts), _entry(row))
    except Exception as error:
        raise DamagedRow(row.seq, row.kind, str(error)) from error


# Cached: a log has millions of rows and few rollouts.
_rollout_id = lru_cache(maxsize=1024)(RolloutId)


def _facts_row(seq: int, at: datetime, entry: FactsReported) -> LogRow:
    facts = entry.facts
    return LogRow(
        seq,
        text_of(at),
        "fact_refused" if len(entry.refused) == len(facts) else "agent_events",
        entry.host,
        entry.rollout_id,
        entry.payload,
        entry.signature,
        facts[0].seq,
        len(facts),
        _outcome_of(entry),
    )


def _outcome_of(entry: FactsReported) -> str | None:
    """Return what is to be said of facts that were not all applied; `None`: nothing."""
    outcome: dict[str, object] = {}
    if entry.continues is not None:
        outcome["continues"] = entry.continues
    if entry.refused:
        outcome["refused"] = {str(seq): reason for seq, reason in entry.refused.items()}
    if entry.stopped is not None:
        outcome["stopped"] = {"seq": entry.stopped.seq, "by": entry.stopped.by}
    return orjson.dumps(outcome).decode() if outcome else None


def _facts_entry(row: LogRow) -> FactsReported:
    host, rollout_id = _host_and_rollout(row)
    first_seq, count = row.first_fact_seq, row.fact_count
    if first_seq is None or count is None or count < 1:
        raise ValueError("expected the number of the first fact, and how many there are")
    facts = tuple(_decided(facts_of_payload(row.payload.encode()), first_seq, count))
    if len(facts) != count:
        raise ValueError(f"expected {count} facts from {first_seq} on, found {len(facts)}")
    outcome = orjson.loads(row.outcome or "{}")
    refused = FrozenMap({int(seq): text for seq, text in outcome.get("refused", {}).items()})
    stopped = outcome.get("stopped")
    return facts_reported(
        host,
        rollout_id,
        facts,
        refused,
        row.payload,
        row.signature,
        None if stopped is None else Stopped(stopped["seq"], stopped["by"]),
        outcome.get("continues"),
    )


def _decided(facts: Iterable[AgentEvent], first_seq: int, count: int) -> Iterator[AgentEvent]:
    """Yield the facts with these numbers, each the first time it is there."""
    expected = first_seq
    for fact in facts:
        if fact.seq == expected < first_seq + count:
            yield fact
            expected += 1


def _columns(entry: Line) -> tuple[str, str | None, str | None, str | None]:
    """Kind, host, rollout, signature."""
    match entry:
        case FactReported():
            return "agent_event", entry.host, entry.rollout_id, entry.signature
        case RolloutMoved():
            return "rollout_event", _host_of(entry.event), subject_of(entry.event), None
        case Planned():
            return "plan_action", _planned_host(entry.action), entry.action.rollout_id, None
        case Deferred():
            return "gate_decision", entry.action.host, entry.action.rollout_id, None
        case Returned():
            return "gate_decision", None, None, None
        case HoldMoved():
            scope = _scope_of(entry.event)
            return "gate_decision", _scope_host(scope), _scope_rollout(scope), None
        case Commanded():
            return "operator_command", None, _commanded_rollout(entry.command), None
        case ArtefactTaken():
            return "artefact_accepted", None, entry.rollout_id, entry.signature
        case ArtefactRefused():
            return "artefact_refused", None, None, None
        case FactRefused():
            return "fact_refused", entry.host, entry.rollout_id, entry.signature
        case IdentityForked():
            return "identity_forked", entry.host, entry.rollout_id, None
        case HostEnrolled():
            return "host_enrolled", entry.token.token.hostname, None, None
        case Followed():
            return _followed_columns(entry.seen)
        case _:
            assert_never(entry)


def _followed_columns(
    seen: ChannelSeen | EnrollmentSeen,
) -> tuple[str, str | None, str | None, str | None]:
    """Of a kind that says what it is for, so that no database has to know another kind."""
    match seen:
        case ChannelSeen():
            return "gate_decision", None, None, None
        case EnrollmentSeen():
            return "host_enrolled", seen.hostname, None, None
        case _:
            assert_never(seen)


def _host_of(event: RolloutEvent) -> str | None:
    match event:
        case HostJoined() | HostStateChanged() | HostDrifted() | DriftEnded():
            return event.host_id
        case (
            RolloutOpened()
            | WaveAdvanced()
            | RolloutTerminal()
            | SuccessorOpened()
            | RetentionExpired()
            | OperatorClearance()
            | WaveBroken()
            | HostsLapsed()
            | StandingChanged()
            | RetryOrdered()
            | MembersChanged()
            | RolloutAborted()
            | GuardsOpened()
            | Verdict()
        ):
            return None
        case _:
            assert_never(event)


def _planned_host(action: OpenRollout | QueueDispatch | WithdrawDispatch) -> str | None:
    match action:
        case OpenRollout():
            return None
        case QueueDispatch() | WithdrawDispatch():
            return action.host
        case _:
            assert_never(action)


def _commanded_rollout(command: OperatorCommand) -> str | None:
    match command:
        case (
            ClearRollout()
            | ExcuseHosts()
            | SkipHosts()
            | RetryHosts()
            | AbortRollout()
            | RelayWarrant()
        ):
            return command.rollout_id
        case PauseScope() | ResumeScope() | PlaceHold() | ReleaseHold():
            return _scope_rollout(command.scope)
        case RetireQuarantine():
            return None
        case _:
            assert_never(command)


def _scope_of(event: HoldEvent) -> HoldScope:
    match event:
        case HoldBegan():
            return event.hold.scope
        case HoldEnded():
            return event.scope
        case _:
            assert_never(event)


def _scope_rollout(scope: HoldScope) -> str | None:
    match scope:
        case RolloutScope() | WaveScope():
            return scope.rollout_id
        case FleetScope() | ChannelScope() | HostScope() | GroupScope():
            return None
        case _:
            assert_never(scope)


def _scope_host(scope: HoldScope) -> str | None:
    match scope:
        case HostScope():
            return scope.hostname
        case FleetScope() | ChannelScope() | RolloutScope() | WaveScope() | GroupScope():
            return None
        case _:
            assert_never(scope)


def _payload(entry: Line) -> bytes:
    match entry:
        case FactReported():
            return encode_event(entry.fact)
        case RolloutMoved():
            return encode_rollout_event(entry.event)
        case Planned():
            return encode_plan_action(entry.action)
        case Deferred():
            return encode_gate_decision(entry.action)
        case Returned() | HoldMoved():
            return encode_gate_decision(entry.event)
        case Commanded():
            return orjson.dumps(_tagged(entry.command))
        case Followed():
            return _followed_payload(entry.seen)
        case (
            ArtefactTaken() | ArtefactRefused() | FactRefused() | IdentityForked() | HostEnrolled()
        ):
            return orjson.dumps(_tagged(_outcome_payload(entry)))
        case _:
            assert_never(entry)


def _followed_payload(seen: ChannelSeen | EnrollmentSeen) -> bytes:
    match seen:
        case ChannelSeen():
            return encode_gate_decision(seen)
        case EnrollmentSeen():
            return orjson.dumps(_tagged(seen))
        case _:
            assert_never(seen)


def _entry(row: LogRow) -> Entry:
    payload = row.payload.encode()
    match row.kind:
        case "agent_events":
            return _facts_entry(row)
        case "fact_refused" if row.first_fact_seq is not None:
            return _facts_entry(row)
        case "agent_event":
            host, rollout_id = _host_and_rollout(row)
            return fact_reported(host, rollout_id, decode_event(payload), row.signature)
        case "rollout_event":
            return RolloutMoved(decode_rollout_event(payload))
        case "plan_action":
            action = decode_plan_action(payload)
            return Deferred(action) if isinstance(action, DeferDispatch) else Planned(action)
        case "gate_decision":
            decision = decode_gate_decision(payload)
            if isinstance(decision, SlotsReturned):
                return Returned(decision)
            if isinstance(decision, HoldBegan | HoldEnded):
                return HoldMoved(decision)
            if isinstance(decision, ChannelSeen):
                return Followed(decision)
            return Deferred(decision)
        case "operator_command":
            return Commanded(_untagged(payload, _COMMANDS))
        case (
            "artefact_accepted"
            | "artefact_refused"
            | "host_enrolled"
            | "identity_forked"
            | "fact_refused"
            | "verify_outcome"
        ):
            return _outcome_entry(row, _untagged(payload, _OUTCOMES))
        case _:
            raise ValueError(f"expected a kind that this version writes, found {row.kind!r}")


@frozen
class _Taken:
    """The payload of `ArtefactTaken`: the fields that have no column."""

    name: str
    body: str
    signed_by: str


@frozen
class _Refused:
    """The payload of `FactRefused`. fact: as it was received, so that its signature can be verified."""

    fact: str
    reason: str


@frozen
class _Forked:
    """The payload of `IdentityForked`."""

    reason: str


@frozen
class _Enrolled:
    """The payload of `HostEnrolled`. token: the content of the token file, including its signature."""

    public_key: str
    token: str


_Outcome: TypeAlias = _Taken | ArtefactRefused | _Refused | _Forked | _Enrolled | EnrollmentSeen


def _outcome_payload(
    entry: ArtefactTaken | ArtefactRefused | FactRefused | IdentityForked | HostEnrolled,
) -> _Outcome:
    match entry:
        case ArtefactTaken():
            return _Taken(entry.name, entry.body, entry.signed_by)
        case ArtefactRefused():
            return entry
        case FactRefused():
            return _Refused(encode_event(entry.fact).decode(), entry.reason)
        case IdentityForked():
            return _Forked(entry.reason)
        case HostEnrolled():
            return _Enrolled(entry.public_key, encode_signed_token(entry.token).decode())
        case _:
            assert_never(entry)


def _outcome_entry(row: LogRow, payload: _Outcome) -> Entry:
    match payload:
        case ArtefactRefused():
            return payload
        case _Taken():
            rollout_id = None if row.rollout_id is None else RolloutId(row.rollout_id)
            return ArtefactTaken(
                payload.name, rollout_id, payload.body, row.signature or "", payload.signed_by
            )
        case _Refused():
            host, rollout_id = _host_and_rollout(row)
            fact = decode_event(payload.fact.encode())
            return FactRefused(host, rollout_id, fact, payload.reason, row.signature)
        case _Forked():
            if row.host_id is None:
                raise ValueError("expected a host")
            about = None if row.rollout_id is None else _rollout_id(row.rollout_id)
            return IdentityForked(row.host_id, about, payload.reason)
        case _Enrolled():
            return HostEnrolled(payload.public_key, decode_signed_token(payload.token.encode()))
        case EnrollmentSeen():
            return Followed(payload)
        case _:
            assert_never(payload)


def _host_and_rollout(row: LogRow) -> tuple[str, RolloutId]:
    if row.host_id is None or row.rollout_id is None:
        raise ValueError("expected a host and a rollout")
    return row.host_id, _rollout_id(row.rollout_id)


_COMMANDS: dict[str, type[OperatorCommand]] = {
    kind.__name__: kind for kind in get_args(OperatorCommand)
}
_OUTCOMES: dict[str, type[_Outcome]] = {
    "ArtefactTaken": _Taken,
    "ArtefactRefused": ArtefactRefused,
    "FactRefused": _Refused,
    "IdentityForked": _Forked,
    "HostEnrolled": _Enrolled,
    "EnrollmentSeen": EnrollmentSeen,
}
_OUTCOME_NAMES: dict[type, str] = {payload: name for name, payload in _OUTCOMES.items()}
_converter = cattrs.Converter(forbid_extra_keys=True)
_converter.register_structure_hook(RolloutId, lambda text, _: RolloutId(text))
_converter.register_structure_hook(HoldScope, lambda text, _: parse_scope(text))
_converter.register_structure_hook(datetime, lambda text, _: time_of(text))


def _tagged(value: OperatorCommand | _Outcome) -> dict[str, object]:
    kind = _OUTCOME_NAMES.get(type(value), type(value).__name__)
    return {"kind": kind, **asdict(value, value_serializer=_plain)}


def _plain(_: object, __: object, value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, datetime):
        return text_of(value)
    return str(value) if isinstance(value, HoldScope) else value


def _untagged(payload: bytes, kinds: Mapping[str, type[T]]) -> T:
    fields = orjson.loads(payload)
    return _converter.structure(fields, kinds[fields.pop("kind")])
