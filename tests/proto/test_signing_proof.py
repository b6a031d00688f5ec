"""`Verified` is a proof: nothing but the verifier makes one."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import evolve

import nixfleet_proto.signing
from nixfleet_proto.codec import encode_fleet
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey, sign_artefact, verify_fleet
from nixfleet_proto.trust import KeySlot, TrustRoot, Verified

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
FLEET = FleetResolved(FrozenMap(), FrozenMap(), FrozenMap(), FrozenMap(), Meta(NOW))
CI = SigningKey(bytes(32))


def _verified() -> Verified[FleetResolved]:
    signed = sign_artefact(encode_fleet(FLEET), CI)
    return verify_fleet(
        signed, TrustRoot(KeySlot(CI.public_key)), NOW, freshness_window_minutes=180
    )


def test_constructing_a_proof_by_hand_is_refused() -> None:
    """The constructor wants the seal, and only the verifier holds it."""
    with pytest.raises(TypeError, match=r"made by nixfleet_proto\.signing and nothing else"):
        Verified("value", b"{}", "00", bytes(64), "ab", NOW)


def test_evolving_a_proof_into_one_for_another_value_is_refused() -> None:
    """A proof cannot be carried over to what was not proved."""
    with pytest.raises(TypeError, match=r"made by nixfleet_proto\.signing and nothing else"):
        evolve(_verified(), value=FLEET)


def test_only_the_verifier_takes_the_seal() -> None:
    """No module of this repository but the verifier so much as names the seal."""
    root = Path(nixfleet_proto.signing.__file__).parents[2]
    sources = [*root.glob("nixfleet_*/**/*.py"), *root.glob("runtimes/**/*.py")]

    naming = {source.relative_to(root).as_posix() for source in sources if _names_the_seal(source)}
    assert naming == {"nixfleet_proto/trust.py", "nixfleet_proto/signing/artefact.py"}


def _names_the_seal(source: Path) -> bool:
    return any(
        "_SEAL" in (getattr(node, part, None) for part in ("id", "attr", "name"))
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
    )


def test_equal_proofs_of_equal_artefacts_are_equal() -> None:
    """Proofs are values: verifying twice gives the same."""
    assert _verified() == _verified()
