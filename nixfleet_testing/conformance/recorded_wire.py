"""A codec's own answers as rows: the bytes of every fact, and what it takes and refuses from outside.

What comes from outside is every fact's text with one thing wrong: each key missing, and of each type it may not be.
"""

import json
from collections.abc import Iterator, Mapping
from typing import cast

from attrs import evolve

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.reference_json import to_json_object
from nixfleet_testing.conformance.wire import WireCodec
from nixfleet_testing.samples import AT, ROLLOUT, facts

_FRACTIONS_MICROSECONDS = (0, 250_000, 250_001)
_SEQ_MAX = 2**64 - 1
_WRONG: Mapping[str, JsonValue] = {
    "null": None,
    "a number": 7,
    "a fraction": 0.5,
    "a text": "x",
    "a list": [],
    "a truth": True,
}


def envelopes(codec: WireCodec) -> Iterator[JsonObject]:
    """Yield every fact, signed and not, with a time of each precision, and with the largest `seq`."""
    for label, fact in _said().items():
        for signature in (None, "ab" * 64):
            envelope = AgentEventEnvelope("web-01", str(ROLLOUT), fact, signature)
            yield {
                "case": label,
                "variant": type(fact).__name__,
                "remote_event": _remote_event(fact),
                "value": to_json_object(envelope),
                "wire": codec.encode(envelope).decode(),
            }


def parses(codec: WireCodec) -> Iterator[JsonObject]:
    """Yield one text of each kind of fact as it is, and with every single thing wrong with it."""
    for kind, fact in {type(fact).__name__: fact for fact in facts().values()}.items():
        envelope = AgentEventEnvelope("web-01", str(ROLLOUT), evolve(fact, seq=1), "ab" * 64)
        written = cast(dict[str, JsonValue], json.loads(codec.encode(envelope)))
        event = cast(dict[str, JsonValue], written["event"])
        yield _parse(f"{kind}: as it is", written, codec)
        for what, wrong in _wrong_ways(written):
            yield _parse(f"{kind}: {what}", wrong, codec)
        for what, wrong in _wrong_ways(event):
            yield _parse(f"{kind}: event, {what}", {**written, "event": wrong}, codec)


def _said() -> Mapping[str, AgentEvent]:
    numbered = {label: evolve(fact, seq=1) for label, fact in facts().items()}
    fractions = {
        f"DispatchAck, {fraction} µs": evolve(fact, seq=_SEQ_MAX)
        for fraction in _FRACTIONS_MICROSECONDS
        for label, fact in facts(AT.replace(microsecond=fraction)).items()
        if label == "DispatchAck"
    }
    return numbered | fractions


def _wrong_ways(written: Mapping[str, JsonValue]) -> Iterator[tuple[str, JsonObject]]:
    yield "a key too many", {**written, "colour": "red"}
    for key in written:
        yield f"no {key}", {name: value for name, value in written.items() if name != key}
        for what, wrong in _WRONG.items():
            yield f"{key} is {what}", {**written, key: wrong}


def _parse(case: str, written: JsonObject, codec: WireCodec) -> JsonObject:
    wire = json.dumps(written, ensure_ascii=False, separators=(",", ":"))
    return {"case": case, "wire": wire, "result": _result(wire, codec)}


def _result(wire: str, codec: WireCodec) -> JsonObject:
    try:
        envelope = codec.decode(wire.encode())
    except codec.refusal:
        # Why is each implementation's own.
        return {"err": {}}
    return {
        "ok": {
            "hostname": envelope.hostname,
            "rollout_id": envelope.rollout_id,
            "signature": envelope.signature,
            "remote_event": _remote_event(envelope.event),
            "reserialized": codec.encode(envelope).decode(),
        }
    }


def _remote_event(fact: AgentEvent) -> JsonObject:
    return {**to_json_object(fact), "type": f"Remote{type(fact).__name__}"}
