"""What the answer of a judge's server means. Pure: bytes in, an answer out. Whatever is not understood is unclear.

What a server says is hostile: it is bounded before it gets here, and nothing of it is kept but short texts.
Source: docs/spec/guards.md, Judges.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from nixfleet_control_plane.judges.judge import Answer, unclear
from nixfleet_proto.steering.guards import Comparison, Scalar
from nixfleet_state_machine.rollout.guard_tally import Outcome

SHOWN_LENGTH_MAX: Final = 100
_OK: Final = 200


def prometheus_answer(status: int, body: bytes, comparison: str) -> Answer:
    """Return what the answer to an instant query means: the comparison of its only sample."""
    parsed = _parsed(body)
    if status != _OK:
        said = _field(parsed, "error")
        why = f": {shown(said)}" if isinstance(said, str) else ""
        return unclear(f"expected status 200, found {status}{why}")
    if _field(parsed, "status") != "success":
        return unclear("expected an answer of Prometheus, found something else")
    kind, result = _field(parsed, "data.resultType"), _field(parsed, "data.result")
    if kind == "scalar":
        return _sample(result, comparison)
    if kind != "vector" or not isinstance(result, list):
        return unclear(f"expected a scalar or a vector, found {shown(kind)}")
    if len(result) != 1:
        found = f"{len(result)}" if result else "none: no data"
        return unclear(f"expected one sample, found {found}")
    return _sample(_field(result[0], "value"), comparison)


def http_answer(status: int, body: bytes, field: str, comparison: str) -> Answer:
    """Return what a JSON body means: the comparison of one of its fields. field: names between dots."""
    if status != _OK:
        return unclear(f"expected status 200, found {status}")
    parsed = _parsed(body)
    if parsed is None:
        return unclear("expected a JSON body, found something else")
    value = _field(parsed, field)
    if isinstance(value, bool | str | Decimal):
        return compared(value, comparison)
    found = "nothing" if value is None else "a list or an object"
    return unclear(f"expected a number, a text or a truth value at {field}, found {found}")


def compared(value: Scalar, comparison: str) -> Answer:
    """Return whether `value` passes; unclear, if it cannot be compared."""
    judged = Comparison.parse(comparison)
    holds = None if judged is None else judged.holds(value)
    evidence = shown(value)
    if holds is None:
        return unclear(f"{evidence} cannot be compared with {comparison}", evidence)
    return Answer(
        Outcome.PASS if holds else Outcome.FAIL,
        f"{evidence} is {'' if holds else 'not '}{comparison}",
        evidence,
    )


def shown(value: object) -> str:
    """Return a value of a server as short text without control characters."""
    if isinstance(value, bool):
        return str(value).lower()
    text = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for each in str(value)[: SHOWN_LENGTH_MAX + 1]
    )
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


def _sample(value: object, comparison: str) -> Answer:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
        return unclear("expected a sample of a time and a value, found something else")
    try:
        number = Decimal(value[1].replace("Inf", "Infinity"))
    except InvalidOperation:
        return unclear(f"expected a number, found {shown(value[1])}")
    if number.is_nan():
        return unclear("expected a number, found NaN: no data")
    return compared(number, comparison)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError):
        return None


def _field(value: object, path: str) -> object:
    """Return what is at `path` of JSON; `None`: nothing. A name that is a number is the place in a list."""
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal():
            place = int(name[:6])
            value = value[place] if place < len(value) else None
        else:
            return None
    return value
