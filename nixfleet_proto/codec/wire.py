"""The messages between agents and the control plane, as bytes.

Envelopes, events and batches are in camelCase, `kind` first and `seq` last, absent options left out: byte for
byte as the public implementation writes them. A dispatch is in snake_case, as there.
Source: docs/spec/wire.md, Events and envelopes.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar, get_args

from attrs import evolve, frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec.json_text import parse_json, sorted_bytes
from nixfleet_proto.codec.limits import TEXT_LENGTH_MAX, limit_problems
from nixfleet_proto.codec.primitives import (
    MalformedValue,
    read_count,
    read_list,
    read_object,
    shown,
)
from nixfleet_proto.codec.problem import PROBLEMS_LOOKED_FOR, DecodeError, DecodeProblem
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case, snake_case
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, Dispatch, EventBatch

M = TypeVar("M")


def encode_event(event: AgentEvent) -> bytes:
    """Return the event alone, as in an envelope and in the log."""
    return _EVENT.encode(event)


def decode_event(data: bytes) -> AgentEvent:
    """Return the event that `data` holds. Raises: DecodeError."""
    return _EVENT.decode(data)


def encode_envelope(envelope: AgentEventEnvelope) -> bytes:
    """Return the body of `POST /v1/agent/events`."""
    return ENVELOPE.encode(envelope)


def decode_envelope(data: bytes) -> AgentEventEnvelope:
    """Return the envelope that `data` holds, as an object or as an array in field order.

    Raises: DecodeError, also for texts and lists that are too long.
    """
    return receive_envelope(data).message


@frozen
class Received(Generic[M]):
    """A message and what its signature has to be over: the canonical form of what was sent.

    Not that of `message`, which lacks the fields that a later version may have added and knows one spelling of a time.
    """

    message: M
    payload: bytes


def receive_envelope(data: bytes) -> Received[AgentEventEnvelope]:
    """Return the envelope that `data` holds, and what its signature has to be over. Raises: as `decode_envelope`."""
    parsed = parse_json(data, ENVELOPE.what)
    envelope = ENVELOPE.of_json(parsed)
    _require_none(ENVELOPE.what, limit_problems(envelope, "$", camel_case))
    return Received(envelope, _part(_from_array(parsed), "hostname", "rolloutId", "event"))


def envelope_payload(envelope: AgentEventEnvelope) -> bytes:
    """Return the bytes that the signature of `envelope` covers: canonical `{hostname, rolloutId, event}`."""
    return sorted_bytes(ENVELOPE.to_json(evolve(envelope, signature=None)))


def encode_event_batch(batch: EventBatch) -> bytes:
    """Return the body of `POST /v1/agent/event-batches`."""
    return EVENT_BATCH.encode(batch)


def decode_event_batch(data: bytes) -> EventBatch:
    """Return the batch that `data` holds: 1 to 256 events of one host and rollout, in order.

    They are counted before any of them is read. Raises: DecodeError.
    """
    return receive_event_batch(data).message


def receive_event_batch(data: bytes) -> Received[EventBatch]:
    """Return the batch that `data` holds, and what its signature has to be over. Raises: as `decode_event_batch`."""
    parsed = parse_json(data, EVENT_BATCH.what)
    _require_few_events(parsed)
    batch = EVENT_BATCH.of_json(parsed)
    _require_none(EVENT_BATCH.what, _batch_problems(batch))
    return Received(batch, _part(parsed, "events"))


def batch_payload(batch: EventBatch) -> bytes:
    """Return the bytes that the signature of `batch` covers: its canonical JSON without the signature."""
    return sorted_bytes(EVENT_BATCH.to_json(evolve(batch, signature=None)))


def facts_of_payload(payload: bytes) -> tuple[AgentEvent, ...]:
    """Return the facts in what a host signed: in an envelope or in a batch, both without a signature.

    Raises: DecodeError.
    """
    return _EVENT.each_of_json(_events_in(payload))


def payload_without(payload: bytes, seq_max: int) -> bytes:
    """Return what a host signed without the facts up to `seq_max`, as a batch. Raises: DecodeError."""
    parsed = parse_json(payload, EVENT_BATCH.what)
    assert isinstance(parsed, Mapping), "it was read as a message"
    envelopes = parsed.get("events", [parsed])
    assert isinstance(envelopes, list), "it was read as a batch"
    return sorted_bytes({"events": [each for each in envelopes if _seq_of(each) > seq_max]})


def _events_in(payload: bytes) -> list[JsonValue]:
    parsed = parse_json(payload, EVENT_BATCH.what)
    if not isinstance(parsed, Mapping):
        raise MalformedValue("an object", parsed)
    if "events" not in parsed:
        return [parsed["event"]]
    return [read_object(envelope)["event"] for envelope in read_list(parsed["events"])]


def _seq_of(envelope: JsonValue) -> int:
    return read_count(read_object(read_object(envelope)["event"])["seq"])


def encode_dispatch(dispatch: Dispatch) -> bytes:
    """Return the answer of `GET /v1/agent/dispatch`, in snake_case."""
    return DISPATCH.encode(dispatch)


def decode_dispatch(data: bytes) -> Dispatch:
    """Return the dispatch that `data` holds. Raises: DecodeError."""
    return DISPATCH.decode(data)


def _part(message: JsonValue, *names: str) -> bytes:
    """The canonical form of these members, as they were sent."""
    assert isinstance(message, Mapping), "it was read as a message"
    return sorted_bytes({name: message[name] for name in names})


def _require_none(what: str, found: Iterator[DecodeProblem]) -> None:
    problems = tuple(islice(found, PROBLEMS_LOOKED_FOR))
    if problems:
        raise DecodeError(what, problems)


def _require_few_events(parsed: JsonValue) -> None:
    events = parsed.get("events") if isinstance(parsed, Mapping) else None
    if isinstance(events, list) and not 1 <= len(events) <= BATCH_LENGTH_MAX:
        problem = DecodeProblem("$.events", f"1 to {BATCH_LENGTH_MAX} events", f"{len(events)}")
        raise DecodeError(EVENT_BATCH.what, (problem,))


def _batch_problems(batch: EventBatch) -> Iterator[DecodeProblem]:
    """What would be in the log without the batch's signature, or with one that nobody verified, is not taken."""
    signature_length = len(batch.signature or "")
    if signature_length > TEXT_LENGTH_MAX:
        expected = f"at most {TEXT_LENGTH_MAX} characters"
        yield DecodeProblem("$.signature", expected, f"{signature_length}")
    first = batch.events[0]
    seq_before: int | None = None
    for index, envelope in enumerate(batch.events):
        path, seq = f"$.events[{index}]", envelope.event.seq
        for name, expected, found in (
            ("hostname", first.hostname, envelope.hostname),
            ("rolloutId", first.rollout_id, envelope.rollout_id),
        ):
            if found != expected:
                as_first = f"{shown(expected)}, as in the first event"
                yield DecodeProblem(f"{path}.{name}", as_first, shown(found))
        if envelope.signature is not None:
            yield DecodeProblem(f"{path}.signature", "none: the batch has one", "one")
        if seq_before is not None and seq <= seq_before:
            yield DecodeProblem(f"{path}.event.seq", f"more than {seq_before}", f"{seq}")
        seq_before = seq
        yield from limit_problems(envelope, path, camel_case)


def _from_array(value: JsonValue) -> JsonValue:
    """The reference also reads an envelope written as an array, in field order."""
    if not isinstance(value, list):
        return value
    if len(value) > len(_ENVELOPE_NAMES):
        raise MalformedValue(f"at most {len(_ENVELOPE_NAMES)} items", value)
    return dict(zip(_ENVELOPE_NAMES, value, strict=False))


_ENVELOPE_NAMES = ("hostname", "rolloutId", "event", "signature")

_CAMEL = Spelling(camel_case, Absent.LEFT_OUT, {AgentEventEnvelope: _from_array})
_CAMEL.tag(AgentEvent, {fact.__name__: fact for fact in get_args(AgentEvent)})
_SNAKE = Spelling(snake_case, Absent.LEFT_OUT)

_EVENT = Coder[AgentEvent](_CAMEL, AgentEvent, "event")
ENVELOPE: Final = Coder[AgentEventEnvelope](_CAMEL, AgentEventEnvelope, "event envelope")
EVENT_BATCH: Final = Coder[EventBatch](_CAMEL, EventBatch, "event batch")
DISPATCH: Final = Coder[Dispatch](_SNAKE, Dispatch, "dispatch")
