"""`to_json` for records, events, effects and plan actions: as stores and logs spell them, without the codec.

Source: docs/spec/wire.md, JSON.
"""

from typing import Any, get_args

from nixfleet_proto.as_json import fields_of, kind_of, snake_case, spelt, to_json_record
from nixfleet_proto.checked import class_of, is_default
from nixfleet_proto.json_value import JsonValue
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.planner.action import PlanAction
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import RolloutEvent

_TAGGED = frozenset(
    (
        *get_args(HostEffect),
        *get_args(RolloutEffect),
        *get_args(RolloutEvent),
        *get_args(PlanAction),
    )
)


def to_json(value: object) -> JsonValue:
    """Return `value` as `json.dumps` takes it, spelt as stores and logs spell it.

    Records, rollout events, effects and plan actions: snake_case, fields with their defaults left out, `kind` (the
    class) first where there are several kinds. Durations are microseconds, sets are sorted lists, times RFC 3339 in
    UTC. Facts and other data of `nixfleet_proto` are spelt as `nixfleet_proto.to_json` spells them, a fact in an
    effect included. Mappings and tuples of these are taken as well.
    Raises: InvalidValue, for what is no data of ours.
    """
    return spelt(value, _outer)


def _outer(value: Any) -> dict[str, JsonValue]:
    of_proto = type(value).__module__.startswith("nixfleet_proto.")
    return to_json_record(value) if of_proto else _inner(value)


def _inner(value: Any) -> dict[str, JsonValue]:
    """What is in a record is spelt as the record is; except facts, which have one spelling everywhere."""
    cls = class_of(value)
    if kind_of(cls) is not None:
        return to_json_record(value)
    return fields_of(
        value, snake_case, is_default, _inner, cls.__name__ if cls in _TAGGED else None
    )
