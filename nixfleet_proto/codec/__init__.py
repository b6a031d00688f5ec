"""Bytes <-> types: JSON as docs/spec/wire.md, JSON spells it, nothing coerced, every problem named at once.

All JSON is read and written here, for the runtimes, `signing` and the test support. `wire` has the messages between
agents and the control plane, `artefact` what is signed or stored in files, `enrollment` tokens, nonces and revocations.
`strict` has the rules of all of them, `quick` a fast path for valid input, `json_text` the text itself.
Source: docs/spec/wire.md, JSON.
"""

from nixfleet_proto.codec.approval import approval_payload, decode_approval, encode_approval
from nixfleet_proto.codec.artefact import (
    HealthCheckSet,
    decode_fleet,
    decode_health_checks,
    decode_manifest,
    decode_trust_root,
    encode_fleet,
    encode_health_checks,
    encode_manifest,
    encode_trust_root,
)
from nixfleet_proto.codec.enrollment import (
    decode_bootstrap_nonces,
    decode_enroll_request,
    decode_revocations,
    decode_signed_token,
    encode_bootstrap_nonces,
    encode_enroll_request,
    encode_revocations,
    encode_signed_token,
    token_payload,
)
from nixfleet_proto.codec.evidence import decode_evidence, encode_evidence
from nixfleet_proto.codec.json_text import (
    Uncanonical,
    canonical_bytes,
    parse_json,
    require_affordable,
)
from nixfleet_proto.codec.primitives import format_time, parse_time
from nixfleet_proto.codec.problem import DecodeError, DecodeProblem
from nixfleet_proto.codec.wire import (
    batch_payload,
    decode_dispatch,
    decode_envelope,
    decode_event,
    decode_event_batch,
    encode_dispatch,
    encode_envelope,
    encode_event,
    encode_event_batch,
    envelope_payload,
    receive_envelope,
    receive_event_batch,
)
from nixfleet_proto.wire import EventBatch

__all__ = [
    "DecodeError",
    "DecodeProblem",
    "EventBatch",
    "HealthCheckSet",
    "Uncanonical",
    "approval_payload",
    "batch_payload",
    "canonical_bytes",
    "decode_approval",
    "decode_bootstrap_nonces",
    "decode_dispatch",
    "decode_enroll_request",
    "decode_envelope",
    "decode_event",
    "decode_event_batch",
    "decode_evidence",
    "decode_fleet",
    "decode_health_checks",
    "decode_manifest",
    "decode_revocations",
    "decode_signed_token",
    "decode_trust_root",
    "encode_approval",
    "encode_bootstrap_nonces",
    "encode_dispatch",
    "encode_enroll_request",
    "encode_envelope",
    "encode_event",
    "encode_event_batch",
    "encode_evidence",
    "encode_fleet",
    "encode_health_checks",
    "encode_manifest",
    "encode_revocations",
    "encode_signed_token",
    "encode_trust_root",
    "envelope_payload",
    "format_time",
    "parse_json",
    "parse_time",
    "receive_envelope",
    "receive_event_batch",
    "require_affordable",
    "token_payload",
]
