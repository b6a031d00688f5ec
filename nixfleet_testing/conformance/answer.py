"""What a machine answered, as JSON, and where two answers differ.

Everything is compared but the fields that the recorder did not know; those only where both sides have them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self, TypeAlias

from attrs import frozen

from nixfleet_proto.json_value import JsonValue

JsonObject: TypeAlias = Mapping[str, JsonValue]

NOTHING = "nothing"
UNKNOWN_TO_RECORDER = frozenset(
    {
        "attempt",
        "attempts",
        "broken_at",
        "cleared_waves",
        "declared_probes",
        "deferred_at",
        "drifted",
        "excused_hosts",
        "failing_since",
        "guard_tallies",
        "guarded_since",
        "retention",
        "standings",
        "unsaid_at",
    }
)


@frozen
class Accepted:
    """The event applied: the record after it, and the effects, whose order does not count."""

    state: JsonObject
    effects: tuple[JsonObject, ...]


@frozen
class RefusedInput:
    """The event did not apply; `reason` is spelled the same by every implementation."""

    reason: str


Answer: TypeAlias = Accepted | RefusedInput


class Mismatch(NamedTuple):
    """At `path` one was `expected` and the other `found`, both as JSON text or `nothing`."""

    path: str
    expected: str
    found: str


@frozen
class Difference:
    """A mismatch and where it was met: the vector, and the step of its history, from 0."""

    vector_id: str
    step: int
    path: str
    expected: str
    found: str


@frozen
class Run:
    """How a vector went. `steps` were compared; `stopped_by` names what ended it early, if anything."""

    vector_id: str
    steps: int
    stopped_by: str | None
    differences: tuple[Difference, ...]

    @classmethod
    def of(
        cls, vector_id: str, steps: int, stopped_by: str | None, mismatches: Sequence[Mismatch]
    ) -> Self:
        """Return the run that ended with the comparison of step `steps - 1`."""
        found = tuple(Difference(vector_id, steps - 1, *mismatch) for mismatch in mismatches)
        return cls(vector_id, steps, stopped_by, found)


def answer_mismatches(expected: Answer, found: Answer) -> Iterator[Mismatch]:
    """Yield where `found` differs from `expected`."""
    if isinstance(expected, Accepted) and isinstance(found, Accepted):
        yield from value_mismatches(expected.state, found.state, "state")
        yield from effect_mismatches(expected.effects, found.effects)
    elif expected != found:
        yield Mismatch("answer", _told(expected), _told(found))


def value_mismatches(expected: JsonValue, found: JsonValue, path: str) -> Iterator[Mismatch]:
    """Yield where `found` differs from `expected`, down to the innermost values.

    A field that was added since the recording, and is absent, makes no difference.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in sorted({*expected, *found}):
            if key in expected and key in found:
                yield from value_mismatches(expected[key], found[key], f"{path}.{key}")
            elif key in expected:
                yield Mismatch(f"{path}.{key}", _text(expected[key]), NOTHING)
            elif key not in UNKNOWN_TO_RECORDER and found[key] is not None:
                yield Mismatch(f"{path}.{key}", NOTHING, _text(found[key]))
    elif _text(expected) != _text(found):
        yield Mismatch(path, _text(expected), _text(found))


def effect_mismatches(
    expected: Sequence[JsonObject], found: Sequence[JsonObject]
) -> Iterator[Mismatch]:
    """Yield what is missing, what is too much, and what differs between two of one type."""
    missing, surplus = _without_equals(expected, found)
    for effect in missing:
        path = f"effects.{effect['type']}"
        namesake = next((other for other in surplus if other["type"] == effect["type"]), None)
        if namesake is None:
            yield Mismatch(path, _text(effect), NOTHING)
        else:
            surplus.remove(namesake)
            yield from value_mismatches(effect, namesake, path)
    for effect in surplus:
        yield Mismatch(f"effects.{effect['type']}", NOTHING, _text(effect))


def _without_equals(
    expected: Sequence[JsonObject], found: Sequence[JsonObject]
) -> tuple[list[JsonObject], list[JsonObject]]:
    missing: list[JsonObject] = []
    surplus = list(found)
    for effect in expected:
        equal = next((o for o in surplus if not any(value_mismatches(effect, o, ""))), None)
        if equal is None:
            missing.append(effect)
        else:
            surplus.remove(equal)
    return missing, surplus


def _told(answer: Answer) -> str:
    return answer.reason if isinstance(answer, RefusedInput) else f"accepted: {_text(answer.state)}"


def _text(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
