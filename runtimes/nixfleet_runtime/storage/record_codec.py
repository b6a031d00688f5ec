"""Encodes records and planner actions as JSON, for stores and snapshots. Lossless in both directions.

Field names are those of the types, in snake_case; fields with their default value are omitted, so rows stay small.
Unions are tagged by `kind`, the class name. Data that does not decode is damaged, never another version: a store that
changes a record's shape migrates its rows.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TypeAlias, get_args

from nixfleet_proto.codec.primitives import (
    STRING,
    MalformedValue,
    read_count,
    read_list,
    read_string,
)
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, snake_case
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import DeferDispatch, PlanAction
from nixfleet_state_machine.planner.holds.hold import HoldBegan, HoldEnded, HoldSource, parse_source
from nixfleet_state_machine.planner.holds.scope import HoldScope, parse_scope
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_state_machine.shards.channel_seen import ChannelSeen

__all__ = [
    "decode_gate_decision",
    "decode_host_record",
    "decode_plan_action",
    "decode_policy",
    "decode_rollout_event",
    "decode_rollout_record",
    "encode_gate_decision",
    "encode_host_record",
    "encode_plan_action",
    "encode_policy",
    "encode_rollout_event",
    "encode_rollout_record",
]


GateDecision: TypeAlias = DeferDispatch | SlotsReturned | HoldBegan | HoldEnded | ChannelSeen


def encode_host_record(record: HostRolloutState) -> bytes:
    """Return the record of one host in one rollout as JSON."""
    return _HOST_RECORD.encode(record)


def decode_host_record(data: bytes) -> HostRolloutState:
    """Return the record that `data` holds. Raises: DecodeError."""
    return _HOST_RECORD.decode(data)


def encode_rollout_record(record: RolloutRecord) -> bytes:
    """Return the record of one rollout as JSON."""
    return _ROLLOUT_RECORD.encode(record)


def decode_rollout_record(data: bytes) -> RolloutRecord:
    """Return the record that `data` holds. Raises: DecodeError."""
    return _ROLLOUT_RECORD.decode(data)


def encode_rollout_event(event: RolloutEvent) -> bytes:
    """Return a rollout event as JSON for the log."""
    return _ROLLOUT_EVENT.encode(event)


def decode_rollout_event(data: bytes) -> RolloutEvent:
    """Return the rollout event that `data` holds. Raises: DecodeError."""
    return _ROLLOUT_EVENT.decode(data)


def encode_plan_action(action: PlanAction) -> bytes:
    """Return an action of the planner as JSON for the log."""
    return _PLAN_ACTION.encode(action)


def decode_plan_action(data: bytes) -> PlanAction:
    """Return the action that `data` holds. Raises: DecodeError."""
    return _PLAN_ACTION.decode(data)


def encode_gate_decision(decision: GateDecision) -> bytes:
    """Return what the gates decided, or what changed for them, as JSON for the log."""
    return _GATE_DECISION.encode(decision)


def decode_gate_decision(data: bytes) -> GateDecision:
    """Return the decision that `data` holds. Raises: DecodeError."""
    return _GATE_DECISION.decode(data)


def encode_policy(policy: RolloutPolicy) -> bytes:
    """Return a rollout policy as JSON."""
    return _POLICY.encode(policy)


def decode_policy(data: bytes) -> RolloutPolicy:
    """Return the rollout policy that `data` holds. Raises: DecodeError."""
    return _POLICY.decode(data)


def _spelling() -> Spelling:
    spelling = Spelling(snake_case, Absent.LEFT_OUT_AS_ANY_DEFAULT, {RolloutRecord: with_standings})
    spelling.add(timedelta, _read_duration, _write_duration)
    spelling.add(frozenset[str], _read_names, sorted)
    spelling.tag(RolloutEvent, {case.__name__: case for case in get_args(RolloutEvent)})
    spelling.tag(PlanAction, {case.__name__: case for case in get_args(PlanAction)})
    spelling.tag(GateDecision, {case.__name__: case for case in get_args(GateDecision)})
    spelling.add(HoldScope, _read_scope, str)
    spelling.add(HoldSource, _read_source, str)
    return spelling


def with_standings(record: JsonValue) -> JsonValue:
    """Read `excused_hosts`, which a record had before it had standings. Standings that are no object are refused."""
    if not isinstance(record, Mapping) or "excused_hosts" not in record:
        return record
    excused = record["excused_hosts"]
    rest = {name: value for name, value in record.items() if name != "excused_hosts"}
    if not isinstance(excused, list) or not all(isinstance(name, str) for name in excused):
        return {**rest, "standings": excused}
    return {**rest, "standings": {str(name): Standing.EXCUSED.value for name in excused}}


def _read_duration(value: JsonValue, _: object = None) -> timedelta:
    return timedelta(microseconds=read_count(value))


def _write_duration(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _read_names(value: JsonValue, _: object = None) -> frozenset[str]:
    names: set[str] = set()
    for index, name in enumerate(read_list(value)):
        if not isinstance(name, str):
            raise MalformedValue(STRING, name, index)
        names.add(name)
    return frozenset(names)


def _read_scope(value: JsonValue, _: object = None) -> HoldScope:
    try:
        return parse_scope(read_string(value))
    except InvalidRolloutId as error:
        raise MalformedValue("the scope of a hold", value) from error


def _read_source(value: JsonValue, _: object = None) -> HoldSource:
    try:
        return parse_source(read_string(value))
    except ValueError as error:
        raise MalformedValue("the source of a hold", value) from error


RECORD_SPELLING = _spelling()
_HOST_RECORD = Coder[HostRolloutState](RECORD_SPELLING, HostRolloutState, "host record")
_ROLLOUT_RECORD = Coder[RolloutRecord](RECORD_SPELLING, RolloutRecord, "rollout record")
_ROLLOUT_EVENT = Coder[RolloutEvent](RECORD_SPELLING, RolloutEvent, "rollout event")
_POLICY = Coder[RolloutPolicy](RECORD_SPELLING, RolloutPolicy, "rollout policy")
_GATE_DECISION = Coder[GateDecision](RECORD_SPELLING, GateDecision, "gate decision")
_PLAN_ACTION = Coder[PlanAction](RECORD_SPELLING, PlanAction, "plan action")
