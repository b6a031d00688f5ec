"""`to_json` for data of this package: what the codec writes, as JSON values, without the codec's libraries.

One way only: reading is the codec's, which checks what it reads. A test holds the two to the same spelling.
Source: docs/spec/wire.md, JSON.
"""

from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, cast

import attrs

from nixfleet_proto.checked import class_of, shown
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.json_value import JsonValue

# As they are spelt, by module: absent options as null in what is signed, left out on the wire.
_SIGNED = {
    f"nixfleet_proto.{name}"
    for name in (
        "enrollment",
        "evidence",
        "fleet",
        "manifest",
        "policy",
        "steering.approval",
        "steering.calendar",
        "steering.guards",
        "trust",
    )
}
_PROBE_KINDS = {
    "HttpProbe": "http",
    "TcpProbe": "tcp",
    "ExecProbe": "exec",
    "EvidenceProbe": "evidence",
    "SystemdProbe": "systemd",
    "HomeProbe": "home",
}
# Fields of signed records that are left out with their defaults, because they were added later.
_ADDED_LATER: Mapping[str, tuple[str, ...]] = {
    "Deadlines": ("ack", "activation", "reboot", "convergence"),
    "FleetChannel": ("on_drift", "enabled"),
    "FleetHost": ("enabled",),
    "FleetResolved": ("calendar",),
    "CalendarEntry": (
        "reason",
        "repeat",
        "start",
        "minutes",
        "days",
        "month_day",
        "nth",
        "until",
        "begins",
        "ends",
        "minutes_needed",
    ),
    "Ramp": ("factor",),
    "DisruptionBudget": ("ramp", "max_per_minute"),
    "ManifestBudget": ("ramp", "max_per_minute"),
    "Meta": ("author",),
    "PolicyWave": ("max_failures", "max_failure_pct", "guards"),
    "RolloutManifest": ("freshness_window_minutes", "wave_not_before", "blast_radius"),
    "RolloutPolicy": ("max_failures", "max_failure_pct", "deadlines", "retry", "recall"),
    "Wave": ("not_before", "max_failures", "max_failure_pct", "guards"),
    "WaveGuards": ("bake_minutes", "approvals", "checks", "waivable"),
    "Check": ("failures", "inconclusive", "interval_seconds"),
}
_NO_FACTS = ("ProbeTopologyEntry", "ProbeSubResult")


def to_json(value: object) -> JsonValue:
    """Return `value`, a record of this package, as `json.dumps` takes it, spelt as the codec spells it.

    Facts, envelopes and batches: camelCase, absent options left out, a fact's `kind` first. A `Dispatch`: the same in
    snake_case. Health checks: camelCase, `kind` first. Fleets, manifests, trust files and all else that is signed:
    camelCase, absent options as null. Times are RFC 3339 in UTC. Mappings and tuples of these are taken as well.
    Raises: InvalidValue, for what is no data of ours.
    """
    return spelt(value, to_json_record)


def to_json_record(value: Any) -> dict[str, JsonValue]:
    """Return one record as `to_json` does."""
    cls = class_of(value)
    name_of = snake_case if cls.__name__ == "Dispatch" else camel_case
    # What is in a signed record is spelt as the record is.
    nulls = cls.__module__ in _SIGNED
    added = _ADDED_LATER.get(cls.__name__, ())

    def is_left_out(field: "attrs.Attribute[Any]", given: object) -> bool:
        if nulls:
            return field.name in added and given == field.default
        return given is None and field.default is None

    return fields_of(
        value,
        name_of,
        is_left_out,
        to_json_record,
        kind_of(cls),
    )


def kind_of(cls: type) -> str | None:
    """Return the `kind` of a class that is one case of a fact or a health check; `None` for any other."""
    if cls.__module__ == "nixfleet_proto.agent_event":
        return None if cls.__name__ in _NO_FACTS else cls.__name__
    return (
        _PROBE_KINDS.get(cls.__name__) if cls.__module__ == "nixfleet_proto.health_check" else None
    )


def fields_of(
    value: Any,
    name_of: Callable[[str], str],
    is_left_out: Callable[["attrs.Attribute[Any]", object], bool],
    record: Callable[[Any], dict[str, JsonValue]],
    kind: str | None = None,
) -> dict[str, JsonValue]:
    """Return the fields of `value` in their order, after its `kind`. record: how inner records are spelt."""
    spelling: dict[str, JsonValue] = {} if kind is None else {"kind": kind}
    for field in attrs.fields(class_of(value)):
        given = getattr(value, field.name)
        if not is_left_out(field, given):
            spelling[name_of(field.name)] = spelt(given, record)
    return spelling


def spelt(value: object, record: Callable[[Any], dict[str, JsonValue]]) -> JsonValue:
    """Return any value as JSON. record: how attrs classes are spelt. Raises: InvalidValue."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return cast("str", value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1)
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(name): spelt(item, record) for name, item in items}
    if isinstance(value, Set):
        return sorted(map(str, cast("Set[object]", value)))
    if isinstance(value, tuple | list):
        return [spelt(item, record) for item in cast("tuple[object, ...]", value)]
    if attrs.has(type(value)):
        return record(value)
    expected = "a record of nixfleet, or a mapping or tuple of them"
    raise InvalidValue("to_json", (ValueProblem("value", expected, shown(value)),))


def time_text(at: datetime) -> str:
    """Return `at` as RFC 3339 in UTC: a fraction of 0, 3 or 6 digits, the shortest that is exact."""
    utc = at.astimezone(UTC)
    digits = "seconds" if not utc.microsecond else "auto"
    if utc.microsecond and not utc.microsecond % 1000:
        digits = "milliseconds"
    return utc.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def camel_case(name: str) -> str:
    """Return the field name as it is spelt in JSON: `exit_code` is `exitCode`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def snake_case(name: str) -> str:
    """Return the field name as it is; `from_` loses what Python wants of it."""
    return name.removesuffix("_")
