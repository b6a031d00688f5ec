"""The recorder's JSON: its names for events, and its spelling of our values, both ways.

Reading is strict: an unknown field, or a number where text belongs, breaks the row instead of being mended.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import GenericAlias
from typing import TypeVar, cast, get_args, get_origin

import attrs
import cattrs
from attrs import AttrsInstance
from cattrs.gen import make_dict_structure_fn, override

from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_state_machine.host.effect import HostEffect
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.state import HostRolloutState, ProbeRecord
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import (
    HostStateChanged,
    OperatorClearance,
    RolloutEvent,
)
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.unreadable import Unreadable, within

T = TypeVar("T")

FACTS: Mapping[str, type[AgentEvent]] = {kind.__name__: kind for kind in get_args(AgentEvent)}
ROLLOUT_EVENTS: Mapping[str, type[RolloutEvent]] = {
    kind.__name__: kind for kind in get_args(RolloutEvent)
}

_SIDES: Mapping[str, Callable[[AgentEvent], Event]] = {"Local": Local, "Remote": Remote}
_FACT_NAMES = {
    "Activate": "DispatchAck",
    "SustainedFailureCrossed": "Failed",
    "RollbackCompleted": "RollbackComplete",
    "ConvergedReached": "Converged",
}
# The recorder's LocalActivate carries the dispatch too; the fact is the acknowledgement alone.
_NOT_OF_THE_FACT = {"LocalActivate": {"target_closure", "soak_due_at"}}

_TAGGED = frozenset((*get_args(AgentEvent), *get_args(HostEffect), *get_args(RolloutEffect)))


def fact_name(event_type: str) -> str:
    """Return our name of the fact in an event that the recorder calls `event_type`."""
    bare = event_type.removeprefix("Local").removeprefix("Remote")
    return _FACT_NAMES.get(bare, bare)


def read_event(json: JsonObject) -> Event:
    """Return the host event that `json` describes."""
    event_type = text_at(json, "type")
    side = _SIDES["Local" if event_type.startswith("Local") else "Remote"]
    dropped = {"type", *_NOT_OF_THE_FACT.get(event_type, ())}
    fields = {name: value for name, value in json.items() if name not in dropped}
    return side(_converter.structure(fields, one_of(FACTS, fact_name(event_type), "a fact")))


def read_rollout_event(json: JsonObject) -> RolloutEvent:
    """Return the rollout event that `json` describes; a clearance without hosts excuses none."""
    kind = one_of(ROLLOUT_EVENTS, text_at(json, "type"), "a rollout event")
    fields = {name: value for name, value in json.items() if name != "type"}
    if kind is OperatorClearance:
        fields.setdefault("excused_hosts", [])
    return _converter.structure(fields, kind)


def read_host_record(json: JsonObject) -> HostRolloutState:
    """Return the host record that `json` describes; no topology is declared if it does not speak of it."""
    return _converter.structure(json, HostRolloutState)


def read_rollout_record(json: JsonObject) -> RolloutRecord:
    """Return the rollout record that `json` describes; every host counts by its state if it does not speak of them."""
    return _converter.structure(as_rollout_record(json), RolloutRecord)


def as_rollout_record(json: JsonObject) -> JsonObject:
    """Return a rollout record as ours are spelled now.

    It has 0 for a log row that the recorder did not know; ours always has one. `excused_hosts`, which a record had
    before it had standings, are those of its hosts. Raises: ValueError.
    """
    spelled = {
        key: 0 if key.endswith("_log_seq") and value is None else value
        for key, value in json.items()
        if key != "excused_hosts"
    }
    if "excused_hosts" not in json:
        return spelled
    excused = structured_at(json, "excused_hosts", tuple[str, ...])
    return {**spelled, "standings": dict.fromkeys(excused, str(Standing.EXCUSED))}


def read_policy(json: JsonObject) -> RolloutPolicy:
    """Return the policy that `json` describes."""
    return RolloutPolicy(on_health_failure=OnHealthFailure(text_at(json, "on_health_failure")))


def value_at(json: JsonObject, key: str) -> JsonValue:
    """Return what is under `key`. Raises: ValueError."""
    if key not in json:
        raise Unreadable(key, f"expected this key, found {', '.join(sorted(json)) or 'none'}")
    return json[key]


def object_at(json: JsonObject, key: str) -> JsonObject:
    """Return the object under `key`. Raises: ValueError."""
    value = value_at(json, key)
    if not isinstance(value, Mapping):
        raise Unreadable(key, f"expected an object, found {value!r}")
    return value


def objects_at(json: JsonObject, key: str) -> tuple[JsonObject, ...]:
    """Return the objects listed under `key`. Raises: ValueError."""
    values = value_at(json, key)
    if not isinstance(values, list):
        raise Unreadable(key, f"expected an array, found {values!r}")
    with within(key):
        numbered = {str(place): value for place, value in enumerate(values)}
        return tuple(object_at(numbered, place) for place in numbered)


def read_at(json: JsonObject, key: str, read: Callable[[JsonObject], T]) -> T:
    """Return `read` of the object under `key`. Raises: ValueError."""
    value = object_at(json, key)
    with within(key):
        return read(value)


def read_each_at(json: JsonObject, key: str, read: Callable[[int, JsonObject], T]) -> tuple[T, ...]:
    """Return `read` of the index and the object, for each object listed under `key`. Raises: ValueError."""

    def read_one(place: int, value: JsonObject) -> T:
        with within(f"{key}.{place}"):
            return read(place, value)

    return tuple(read_one(*pair) for pair in enumerate(objects_at(json, key)))


def structured_at(json: JsonObject, key: str, kind: type[T]) -> T:
    """Return what is under `key`, as a `kind`. Raises: ValueError."""
    value = value_at(json, key)
    with within(key):
        return _converter.structure(value, kind)


def text_at(json: JsonObject, key: str) -> str:
    """Return the text under `key`. Raises: ValueError."""
    value = value_at(json, key)
    with within(key):
        return _exactly(value, str)


def number_at(json: JsonObject, key: str) -> int:
    """Return the whole number under `key`. Raises: ValueError."""
    value = value_at(json, key)
    with within(key):
        return _exactly(value, int)


def time_at(json: JsonObject, key: str) -> datetime:
    """Return the aware time under `key`. Raises: ValueError."""
    return structured_at(json, key, datetime)


def id_at(json: JsonObject) -> str:
    """Return the id of a row, a number or a text. Raises: ValueError."""
    value = value_at(json, "id")
    return value if isinstance(value, str) else str(number_at(json, "id"))


def one_of(known: Mapping[str, T], name: str, what: str) -> T:
    """Return what is known under `name`. Raises: ValueError."""
    if name not in known:
        raise ValueError(f"expected the name of {what}, found {name!r}")
    return known[name]


def to_json_object(value: AttrsInstance) -> JsonObject:
    """Return a record, fact or effect of ours as the recorder spells it, in all its fields."""
    kind = type(value)
    tag = {"type": kind.__name__} if kind in _TAGGED else {}
    names = [field.name for field in attrs.fields(kind)]
    return tag | {name.rstrip("_"): to_json(getattr(value, name)) for name in names}


def to_json(value: object) -> JsonValue:
    """Return one of our values as the recorder spells it; `type` names the facts and effects."""
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value)
        return {key: to_json(item) for key, item in items.items()}
    if isinstance(value, frozenset):
        # A set has no order of its own, and a vector needs one.
        return [*sorted(cast(frozenset[str], value))]
    if isinstance(value, tuple):
        return [to_json(item) for item in cast(Iterable[object], value)]
    if isinstance(value, timedelta):
        return int(value.total_seconds())
    if isinstance(value, datetime):
        return _spelled(value)
    if attrs.has(type(value)):
        return to_json_object(cast(AttrsInstance, value))
    if value is None or isinstance(value, bool | int):
        return value
    # Enums and ids are texts of a kind; here they are plain ones.
    return str(value)


def _spelled(at: datetime) -> str:
    if at.microsecond == 0:
        precision = "seconds"
    elif at.microsecond % 1000 == 0:
        precision = "milliseconds"
    else:
        precision = "microseconds"
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _exactly(value: object, kind: type[T]) -> T:
    # Not isinstance: a bool is no number here.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value


def _structure_time(value: object, _: type[datetime]) -> datetime:
    at = datetime.fromisoformat(_exactly(value, str))
    if at.tzinfo is None:
        raise ValueError(f"expected a time with a zone, found {value!r}")
    return at


def _structure_seconds(value: object, _: type[timedelta]) -> timedelta:
    return timedelta(seconds=_exactly(value, int))


def _structure_id(value: object, _: type[RolloutId]) -> RolloutId:
    return RolloutId(_exactly(value, str))


def _structure_enum(value: object, kind: type[StrEnum]) -> StrEnum:
    return kind(_exactly(value, str))


def _is_array(kind: object) -> bool:
    origin: object = get_origin(kind)
    return origin is tuple or origin is frozenset


def _structure_array(value: object, kind: object) -> object:
    if not isinstance(value, list):
        # A text would be taken for the array of its letters.
        raise TypeError(f"expected an array, found {value!r}")
    members = _converter.structure(value, cast(type[list[object]], _list_of(get_args(kind)[0])))
    return frozenset(members) if get_origin(kind) is frozenset else tuple(members)


def _list_of(element: object) -> object:
    return GenericAlias(list, (element,))


def _structure_map(value: object, kind: object) -> FrozenMap[str, object]:
    element = get_args(kind)[1]
    as_dict = cast(type[dict[str, object]], GenericAlias(dict, (str, element)))
    return FrozenMap(_converter.structure(value, as_dict))


_MAPS = (FrozenMap[str, ProbeRecord], FrozenMap[str, Standing], FrozenMap[str, int])


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (int, str):
        converter.register_structure_hook(kind, _exactly)
    # The hook for `str` would be taken for enums, which are texts too.
    converter.register_structure_hook(StrEnum, _structure_enum)
    converter.register_structure_hook_func(_is_array, _structure_array)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook(timedelta, _structure_seconds)
    converter.register_structure_hook(RolloutId, _structure_id)
    converter.register_structure_hook_func(lambda kind: kind in _MAPS, _structure_map)
    converter.register_structure_hook(
        HostStateChanged,
        make_dict_structure_fn(HostStateChanged, converter, from_=override(rename="from")),
    )
    return converter


_converter = _make_converter()
