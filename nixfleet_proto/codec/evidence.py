"""Evidence files as bytes, written as all artefacts are.

Source: docs/spec/wire.md, JSON; docs/spec/trust.md, Evidence.
"""

from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.evidence import Evidence
from nixfleet_proto.json_value import JsonValue


def encode_evidence(evidence: Evidence) -> bytes:
    """Return the canonical bytes of an evidence file."""
    return _EVIDENCE.encode_canonical(evidence)


def decode_evidence(data: bytes) -> Evidence:
    """Return the evidence that `data` holds. Raises: DecodeError."""
    return _EVIDENCE.decode(data)


def evidence_of(artefact: JsonValue) -> Evidence:
    """As `decode_evidence`, from parsed JSON. Raises: DecodeError."""
    return _EVIDENCE.of_json(artefact)


_EVIDENCE = Coder[Evidence](ARTEFACT_SPELLING, Evidence, "evidence file")
