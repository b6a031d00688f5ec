"""A fact, effect or row on one line: its class, and the fields that matter to a reader. Pure."""

from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from typing import cast

import attrs

from nixfleet_proto.checked import is_default

LEFT_OUT = frozenset(
    {
        "seq",  # Shown before the fact.
        "event_log_seq",
        "cleared_by_seq",
        "triggering_event_log_seq",
        "operator",
        "target",  # Of an `EmitLog`: which logger.
        "level",
    }
)
"""Fields that are time_at elsewhere in the line, or are of no use there."""

NAMES = frozenset(
    {
        "channel",
        "closure",
        "gate",
        "host",
        "host_id",
        "hostname",
        "mode",
        "observed_current_closure",
        "probe_name",
        "rollout_id",
        "scope",
        "status",
        "target_closure",
        "target_ref",
    }
)
"""Fields whose value needs no label."""


def brief(value: object) -> str:
    """Return the class of the attrs instance `value` and its fields; without times, absent and empty fields."""
    return " ".join([type(value).__name__, *_fields(value, NAMES)])


def _fields(value: object, without_label: Container[str]) -> Iterator[str]:
    for field in _known(value):
        found = getattr(value, field.name)
        if field.name in LEFT_OUT or _says_nothing(found):
            continue
        if isinstance(found, int) and is_default(field, found):
            continue
        yield _text(found) if field.name in without_label else f"{field.name}={_text(found)}"


def _says_nothing(value: object) -> bool:
    return value is None or isinstance(value, datetime) or value in ("", (), frozenset())


def _text(value: object) -> str:
    if isinstance(value, tuple | frozenset):
        members = [_text(each) for each in cast("Iterable[object]", value)]
        return f"[{', '.join(members if isinstance(value, tuple) else sorted(members))}]"
    if attrs.has(type(value)):
        return " ".join(_fields(value, {it.name for it in _known(value)}))
    text = str(value)
    return repr(text) if isinstance(value, str) and " " in text else text


def _known(value: object) -> "tuple[attrs.Attribute[object], ...]":
    known: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", type(value))
    )
    return known
