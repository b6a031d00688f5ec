"""`nixfleet evidence`: what a collector found, signed so that the probe believes it."""

from pathlib import Path

import pytest

from nixfleet_proto.signing import SigningKey
from tests.cli.conftest import Invoke

HOST = SigningKey(b"\1" * 32)
AT = "2026-05-16T01:00:00Z"
FOUND = """
{"schemaVersion": 1, "collectedAt": "2026-05-16T01:00:00Z", "controls": [
  {"controlId": "art-21", "framework": "nis2", "status": "pass"},
  {"controlId": "art-23", "framework": "nis2", "status": "fail", "reason": "no log is kept"},
  {"controlId": "1.1", "framework": "cis", "status": "pass"}
]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    HOST.save(tmp_path / "host.key")
    (tmp_path / "found.json").write_text(FOUND)
    return tmp_path


def check(nixfleet: Invoke, place: Path, framework: str, at: str = AT) -> tuple[int, str, str]:
    key = HOST.public_key.public_key
    done = nixfleet(
        *("evidence", "check", place / "evidence.json", "--key", key),
        *("--framework", framework, "--at", at),
    )
    return done.exit_code, done.stdout, done.stderr


def test_signed_evidence_is_judged_as_the_probe_would(nixfleet: Invoke, place: Path) -> None:
    """Signing puts evidence and signature where the probe reads them; checking tells each control."""
    signed = nixfleet(
        *("evidence", "sign", place / "found.json", "--key", place / "host.key"),
        *("--to", place / "evidence.json"),
    )

    assert signed.exit_code == 0, signed.output
    assert len((place / "evidence.json.sig").read_bytes()) == 64
    assert check(nixfleet, place, "cis") == (0, "1.1  pass\n", "")
    code, told, why = check(nixfleet, place, "nis2")
    assert (code, told) == (1, "art-21  pass\nart-23  fail\n")
    assert "1 that fail: art-23 (no log is kept)" in why
    assert check(nixfleet, place, "cis", "2026-05-18T01:00:00Z")[0] == 1


def test_what_is_no_evidence_is_not_signed(nixfleet: Invoke, place: Path) -> None:
    """Every mistake in a collector's file is told, and nothing is put anywhere."""
    (place / "found.json").write_text(FOUND.replace("pass", "good").replace("collectedAt", "at"))

    signed = nixfleet("evidence", "sign", place / "found.json", "--key", place / "host.key")

    assert signed.exit_code == 1
    for path in ("$.collectedAt", "$.controls[0].status", "$.controls[2].status"):
        assert path in signed.stderr
    assert not (place / "found.json.sig").exists()
