"""Verifies that the key of a host signed its evidence. The probe checks when it was collected.

Source: docs/spec/declarations.md, Probe kinds; docs/spec/trust.md, Evidence.
"""

from nixfleet_proto.codec.evidence import evidence_of
from nixfleet_proto.evidence import Evidence
from nixfleet_proto.signing.artefact import parsed_if_signed
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import SignedArtefact


def verify_evidence(signed: SignedArtefact, host_key: TrustedKey) -> Evidence:
    """Return the evidence, if the key of the host signed it.

    Raises: MalformedArtefact, MalformedKey, MalformedSignature, UnsupportedAlgorithm, BadSignature,
    UnsupportedSchema.
    """
    return parsed_if_signed(signed, host_key, evidence_of)
