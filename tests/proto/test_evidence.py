"""Evidence as bytes, and the host's key behind it; what can be sealed to a key, and opened by it alone."""

from datetime import UTC, datetime

import pytest

from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.codec import DecodeError, decode_evidence, encode_evidence
from nixfleet_proto.evidence import ControlFinding, Evidence
from nixfleet_proto.signing import (
    BadSignature,
    MalformedArtefact,
    MalformedKey,
    SigningKey,
    UnsupportedAlgorithm,
    UnsupportedSchema,
    require_usable,
    seal_to,
    sign_artefact,
    verify_evidence,
)
from nixfleet_proto.trust import TrustedKey

HOST, OTHER = SigningKey(b"\1" * 32), SigningKey(b"\2" * 32)
EVIDENCE = Evidence(
    datetime(2026, 5, 16, 1, tzinfo=UTC),
    (ControlFinding("art-21", "nis2", ProbeStatus.PASS, "21(2)(a)", "looked at"),),
)


def test_evidence_survives_being_written() -> None:
    """What is encoded is decoded as it was, and absent options are written as null."""
    assert decode_evidence(encode_evidence(EVIDENCE)) == EVIDENCE


def test_evidence_with_mistakes_is_told_with_all_of_them() -> None:
    """Each problem has its path."""
    with pytest.raises(DecodeError) as caught:
        decode_evidence(b'{"collectedAt": 5, "controls": [{"controlId": "a", "status": "maybe"}]}')

    assert {it.path for it in caught.value.problems} == {
        "$.collectedAt",
        "$.controls[0].framework",
        "$.controls[0].status",
    }


def test_evidence_is_verified_with_the_hosts_key() -> None:
    """The host's signature is good, another's is not, and what is no evidence is not, whoever signed it."""
    signed = sign_artefact(encode_evidence(EVIDENCE), HOST)

    assert verify_evidence(signed, HOST.public_key) == EVIDENCE
    with pytest.raises(BadSignature):
        verify_evidence(signed, OTHER.public_key)
    with pytest.raises(MalformedArtefact):
        verify_evidence(sign_artefact(b"{}", HOST), HOST.public_key)


def test_evidence_of_a_later_version_is_told_with_its_number() -> None:
    """A version is looked at before the content is."""
    with pytest.raises(UnsupportedSchema) as caught:
        verify_evidence(sign_artefact(b'{"schemaVersion":2}', HOST), HOST.public_key)

    assert (caught.value.expected, caught.value.found) == (1, 2)


def test_what_is_sealed_to_a_key_is_opened_by_it_alone() -> None:
    """Another key, a changed byte or too few bytes give nothing."""
    sealed = seal_to(HOST.public_key, b"secret")

    assert HOST.unseal(sealed) == b"secret"
    assert OTHER.unseal(sealed) is None
    assert HOST.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert HOST.unseal(b"short") is None


@pytest.mark.parametrize("weak", ["00" * 32, "01" + "00" * 31, "ff" * 32, "abc"])
def test_a_key_that_no_private_key_has_is_no_key(weak: str) -> None:
    """Weak points, what is no point, and what has another length can stand behind nothing."""
    with pytest.raises(MalformedKey):
        require_usable(TrustedKey(weak))


def test_a_key_for_another_algorithm_is_told_by_its_name() -> None:
    """What this release cannot check it does not use."""
    require_usable(HOST.public_key)
    with pytest.raises(UnsupportedAlgorithm) as caught:
        seal_to(TrustedKey("ab" * 32, "rsa"), b"")

    assert caught.value.algorithm == "rsa"
