"""The maximal length of texts and lists in a reported event.

Reported facts are kept permanently, in the log and in the record of the host, so their size must not be the host's
choice. Our agent stays within the limits. Rows of a log are read whatever their lengths.
Source: docs/spec/wire.md, Events and envelopes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast, get_args

import attrs

from nixfleet_proto.agent_event import ProbeResult, ProbeTopologyDeclared
from nixfleet_proto.codec.problem import DecodeProblem
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX
from nixfleet_proto.wire import AgentEventEnvelope

TEXT_LENGTH_MAX: Final = 1024
"""Of a text that is not in `LENGTHS_MAX`: names, closures, reasons."""
LENGTHS_MAX: Final[Mapping[str, int]] = {
    "hostname": 255,
    "rollout_id": 512,
    "failure_reason": FAILURE_REASON_LENGTH_MAX,
    "stderr_tail": 8192,
    "probes": 256,
    "failing_probes": 256,
    "failed_units": 64,
    "sub_results": 1024,
}
"""By field: characters of a text, items of a list."""
LISTS: Final = frozenset({"probes", "failing_probes", "failed_units", "sub_results"})


def limit_problems(
    envelope: AgentEventEnvelope, path: str, name_of: Callable[[str], str]
) -> Iterator[DecodeProblem]:
    """Yield what is too long in `envelope`, which is at `path`. name_of: a field's name in JSON."""
    event = envelope.event
    if not _is_within[AgentEventEnvelope](envelope):
        yield from _too_long(envelope, path, name_of)
    if not _is_within[type(event)](event):
        yield from _too_long(event, f"{path}.event", name_of)
    match event:
        case ProbeTopologyDeclared():
            records: tuple[object, ...] = event.probes
            name = "probes"
        case ProbeResult():
            records, name = event.sub_results or (), "sub_results"
        case _:
            return
    for index, record in enumerate(records):
        if not _is_within[type(record)](record):
            yield from _too_long(record, f"{path}.event.{name_of(name)}[{index}]", name_of)


def is_within_limits(record: object) -> bool:
    """Return whether no text and no list of `record`, an event or a part of one, is too long."""
    return _is_within[type(record)](record)


def _too_long(record: object, path: str, name_of: Callable[[str], str]) -> Iterator[DecodeProblem]:
    for name, length_max in limits_of(type(record)):
        value: str | tuple[object, ...] | None = getattr(record, name)
        if value is not None and len(value) > length_max:
            unit = "characters" if isinstance(value, str) else "items"
            expected = f"at most {length_max} {unit}"
            yield DecodeProblem(f"{path}.{name_of(name)}", expected, f"{len(value)}")


class _Checks(dict[type, Callable[[object], bool]]):
    """For each class, whether one of it has nothing that is too long: an expression, since every event is asked."""

    def __missing__(self, cls: type) -> Callable[[object], bool]:
        conditions = [
            f"(it.{name} is None or len(it.{name}) <= {length_max})"
            for name, length_max in limits_of(cls)
        ]
        source = "lambda it: " + (" and ".join(conditions) or "True")
        check = self[cls] = cast("Callable[[object], bool]", eval(source, {}))
        return check


_is_within: Final = _Checks()


def limits_of(cls: type) -> tuple[tuple[str, int], ...]:
    """Return the fields of an attrs class that have a length, each with the greatest that it may have."""
    fields = attrs.fields(cast("type[attrs.AttrsInstance]", cls))
    return tuple(
        (field.name, LENGTHS_MAX.get(field.name, TEXT_LENGTH_MAX))
        for field in fields
        if field.name in LENGTHS_MAX or field.type is str or str in get_args(field.type)
    )
