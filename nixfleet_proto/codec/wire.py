"""What agents and the control plane send each other, as bytes.

Envelopes, events and batches are in camelCase, `kind` first and `seq` last, absent options left out: byte for
byte what the public implementation writes. A dispatch is in snake_case, as it does too.
Source: docs/spec/wire.md, Events and envelopes.
"""

from collections.abc import Iterator
from typing import Final, get_args

from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec.json_text import sorted_bytes
from nixfleet_proto.codec.primitives import MalformedValue
from nixfleet_proto.codec.problem import DecodeError, DecodeProblem
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case, snake_case
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, Dispatch, EventBatch


def encode_event(event: AgentEvent) -> bytes:
    """Return the event alone, as it stands in an envelope and in the log."""
    return _EVENT.encode(event)


def decode_event(data: bytes) -> AgentEvent:
    """Return the event that `data` holds. Raises: DecodeError."""
    return _EVENT.decode(data)


def encode_envelope(envelope: AgentEventEnvelope) -> bytes:
    """Return the body of `POST /v1/agent/events`."""
    return ENVELOPE.encode(envelope)


def decode_envelope(data: bytes) -> AgentEventEnvelope:
    """Return the envelope that `data` holds, as an object or as an array in field order.

    Raises: DecodeError.
    """
    return ENVELOPE.decode(data)


def envelope_payload(envelope: AgentEventEnvelope) -> bytes:
    """Return what the signature of `envelope` is over: canonical `{hostname, rolloutId, event}`."""
    return sorted_bytes(ENVELOPE.to_json(evolve(envelope, signature=None)))


def encode_event_batch(batch: EventBatch) -> bytes:
    """Return the body of `POST /v1/agent/event-batches`."""
    return EVENT_BATCH.encode(batch)


def decode_event_batch(data: bytes) -> EventBatch:
    """Return the batch that `data` holds: 1 to 256 events, all of one host.

    Raises: DecodeError.
    """
    batch = EVENT_BATCH.decode(data)
    problems = tuple(_batch_problems(batch))
    if problems:
        raise DecodeError("event batch", problems)
    return batch


def batch_payload(batch: EventBatch) -> bytes:
    """Return what the signature of `batch` is over: the canonical JSON of the whole, without it."""
    return sorted_bytes(EVENT_BATCH.to_json(evolve(batch, signature=None)))


def encode_dispatch(dispatch: Dispatch) -> bytes:
    """Return the answer of `GET /v1/agent/dispatch`, in snake_case."""
    return DISPATCH.encode(dispatch)


def decode_dispatch(data: bytes) -> Dispatch:
    """Return the dispatch that `data` holds. Raises: DecodeError."""
    return DISPATCH.decode(data)


def _batch_problems(batch: EventBatch) -> Iterator[DecodeProblem]:
    if not 1 <= len(batch.events) <= BATCH_LENGTH_MAX:
        expected, found = f"1 to {BATCH_LENGTH_MAX} events", f"{len(batch.events)}"
        yield DecodeProblem("$.events", expected, found)
        return
    hostname = batch.events[0].hostname
    for index, envelope in enumerate(batch.events):
        if envelope.hostname != hostname:
            path = f"$.events[{index}].hostname"
            yield DecodeProblem(
                path, f"{hostname!r}, as in the first event", repr(envelope.hostname)
            )


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
