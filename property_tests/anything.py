"""Any value of a type, drawn wide: any text, any time, any number that fits. For laws of bytes, not of machines.

The strategies that are shipped draw from few names, so that they collide; here nothing should.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import attrs
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.policy import DEADLINE_MINUTES_MAX
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_proto.steering.warrant import Warrant
from nixfleet_proto.trust import Operator, TrustRoot
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.state import RolloutRecord

JSON_VALUE = get_args(FrozenMap[str, JsonValue])[1]
CANONICAL_INTEGER_MAX = 2**53 - 1
HEALTH_RULES = st.just("last-third") | st.integers(1, 100).map("{}%".format)
POLICY_LIMITS = {
    "minutes": (1, DEADLINE_MINUTES_MAX),
    "attempts": (1, 2**32),
    "factor": (1, 2**32),
    "max_failure_pct": (1, 100),
    "start": (1, 2**32),
    "max_per_minute": (1, 2**32),
}
"""The least and the most of numbers in policies and budgets, by field."""
STEERING = (CalendarEntry, Approvals, Check, WaveGuards, Warrant)
"""What people decide: their fields depend on each other, so the shipped strategies draw them."""
SIGNED = st.integers(-(2**31), 2**31 - 1)
"""Exit codes, and waves, of which -1 is before the first one."""


def anything(form: Any, integer_max: int = 2**64 - 1) -> SearchStrategy[Any]:
    """Return a strategy for `form`: a class, a union, or a collection, as it stands in an annotation."""
    origin, arguments = get_origin(form), get_args(form)
    if form in _SIMPLE:
        return _SIMPLE[form]
    if form is int:
        return st.integers(0, integer_max)
    if isinstance(form, type) and issubclass(form, StrEnum):
        return st.sampled_from(form)
    if origin in (Union, UnionType):
        return st.one_of([anything(case, integer_max) for case in arguments])
    if origin is tuple:
        return st.lists(anything(arguments[0], integer_max), max_size=3).map(tuple)
    if origin is frozenset:
        return st.frozensets(anything(arguments[0], integer_max), max_size=3)
    if origin is FrozenMap:
        items = st.dictionaries(st.text(), anything(arguments[1], integer_max), max_size=3)
        return items.map(FrozenMap)
    assert attrs.has(form), f"no strategy for {form}"
    if form in STEERING:
        return st.from_type(form)
    fields = _fields(form, integer_max)
    # Readers refuse what no policy may say.
    fields |= {
        name: _limited(attrs.fields_dict(form)[name].type, least, most)
        for name, (least, most) in POLICY_LIMITS.items()
        if name in fields and attrs.fields_dict(form)[name].type in (int, int | None)
    }
    if "healthy" in fields:
        # Readers refuse a rule that there is not, and any but "latest" for a check that runs once.
        return st.builds(
            form, **fields | {"healthy": st.sampled_from((None, "latest"))}
        ) | st.builds(form, **fields | {"healthy": HEALTH_RULES, "run_once": st.just(False)})
    if form is TrustRoot:
        # No two operators have one name or one key; keys are the same in upper case.
        operators = st.lists(
            anything(Operator, integer_max), max_size=3, unique_by=(_name_of, _key_of)
        )
        return st.builds(form, **fields | {"operators": operators.map(tuple)})
    if form in (HostRolloutState, RolloutRecord):
        return st.fixed_dictionaries(fields).map(lambda values: form(**_consistent(values)))
    return st.builds(_made(form), **fields)


def _made(form: Any) -> Any:
    """Return a maker of `form` that draws again for values that contradict each other: there is no such record."""

    def make(**values: Any) -> Any:
        try:
            return form(**values)
        except InvalidValue:
            reject()

    return make


def _name_of(operator: Operator) -> str:
    return operator.name


def _key_of(operator: Operator) -> str:
    return operator.public_key.public_key.lower()


def _limited(form: Any, least: int, most: int) -> SearchStrategy[int | None]:
    numbers = st.integers(least, most)
    return numbers if form is int else st.none() | numbers


def _consistent(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record with those that its rollout id decides, and a host name that is not empty."""
    decided = {
        "channel": values["rollout_id"].channel,
        "target_ref": values["rollout_id"].channel_ref,
        "hostname": values.get("hostname") or "h",
    }
    return values | {name: value for name, value in decided.items() if name in values}


def json_values(integer_max: int = CANONICAL_INTEGER_MAX) -> SearchStrategy[JsonValue]:
    """JSON without floats, frozen as records carry it."""
    leaves = st.none() | st.booleans() | st.integers(-integer_max, integer_max) | st.text()
    return st.recursive(leaves, _containers, max_leaves=8)


def times() -> SearchStrategy[datetime]:
    """Aware times to the microsecond; whole seconds and milliseconds often."""
    moments = st.datetimes(timezones=st.just(UTC))
    units = st.sampled_from((1, 1_000, 1_000_000))
    return st.builds(_cut, moments, units)


def _cut(moment: datetime, unit: int) -> datetime:
    return moment.replace(microsecond=moment.microsecond // unit * unit)


def _containers(inner: SearchStrategy[JsonValue]) -> SearchStrategy[JsonValue]:
    lists = st.lists(inner, max_size=3).map(tuple)
    return lists | st.dictionaries(st.text(), inner, max_size=3).map(FrozenMap)


def _fields(form: type[Any], integer_max: int) -> dict[str, SearchStrategy[Any]]:
    return {
        field.alias or field.name: SIGNED
        if field.name in ("exit_code", "expect_exit_code", "current_wave", "from_wave")
        else anything(field.type, integer_max)
        for field in attrs.fields(form)
    }


def _rollout_ids() -> SearchStrategy[RolloutId]:
    channels = st.from_regex(r"[a-z0-9_-]+", fullmatch=True)
    refs = st.text(min_size=1).filter(lambda ref: "@" not in ref)
    return st.builds(RolloutId.of, channels, refs)


_SIMPLE: dict[Any, SearchStrategy[Any]] = {
    str: st.text(),
    bool: st.booleans(),
    NoneType: st.none(),
    datetime: times(),
    timedelta: st.timedeltas(timedelta(0), timedelta(days=36_500)),
    RolloutId: _rollout_ids(),
    JSON_VALUE: json_values(),
}
