"""Revocations and nonces: what is written, what tokens bring, what is signed of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_proto.codec import encode_signed_token
from nixfleet_proto.enrollment import BootstrapNonce, BootstrapToken, Revocation
from nixfleet_proto.fleet import Meta
from nixfleet_proto.signing import SigningKey, sign_token
from nixfleet_release import Admission, AdmissionError, read_admission

NOW = datetime(2026, 5, 16, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def token_in(directory: Path, hostname: str, nonce: str) -> None:
    directory.mkdir(exist_ok=True)
    token = BootstrapToken(hostname, "ab" * 32, NOW, NOW + HOUR, nonce)
    signed = sign_token(token, SigningKey(bytes(32)))
    (directory / f"{hostname}.json").write_bytes(encode_signed_token(signed))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Hosts, times in any zone, and reasons come out as they were written."""
    file = tmp_path / "admission.toml"
    file.write_text("""
[[revocations]]
hostname = "web-03"
not_before = 2026-05-16T03:00:00+02:00
reason = "disk stolen"

[[nonces]]
nonce = "n-1"
hostname = "web-04"
expires_at = 2026-05-16T02:00:00Z
""")

    assert read_admission(file) == Admission(
        (Revocation("web-03", NOW, "disk stolen"),), (BootstrapNonce("n-1", "web-04", NOW + HOUR),)
    )


def test_tokens_bring_their_nonces(tmp_path: Path) -> None:
    """A nonce on a token need not be written again; if it is, it is the same one."""
    token_in(tmp_path / "tokens", "web-04", "n-1")
    token_in(tmp_path / "tokens", "web-05", "n-2")
    file = tmp_path / "admission.toml"
    file.write_text(
        'nonces = [{nonce = "n-1", hostname = "web-04", expires_at = 2026-05-16T02:00:00Z}]'
    )

    nonces = read_admission(file, tmp_path / "tokens").nonces

    assert [(it.nonce, it.hostname) for it in nonces] == [("n-1", "web-04"), ("n-2", "web-05")]


def test_expired_nonces_are_left_out_and_the_rest_is_sorted() -> None:
    """What has expired at the time of signing is good for nothing and is not signed."""
    nonces = (
        BootstrapNonce("b", "web-05", NOW + HOUR),
        BootstrapNonce("c", "web-06", NOW),
        BootstrapNonce("a", "web-04", NOW + HOUR),
    )

    signed = Admission(nonces=nonces).nonces_as_of(Meta(NOW), NOW)

    assert [it.nonce for it in signed.nonces] == ["a", "b"]


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    """Times without an offset, missing and unknown keys, and what is said twice, all at once."""
    token_in(tmp_path / "tokens", "web-04", "n-1")
    (tmp_path / "tokens" / "no-token.json").write_text("{}")
    file = tmp_path / "admission.toml"
    file.write_text("""
[[revocations]]
hostname = "web-03"
not_before = 2026-05-16T03:00:00

[[revocations]]
hostname = "web-03"
not_before = 2026-05-16T03:00:00Z
because = "stolen"

[[nonces]]
nonce = "n-1"
expires_at = 2026-05-16T02:00:00Z
""")

    with pytest.raises(AdmissionError) as caught:
        read_admission(file, tmp_path / "tokens")

    told = {(it.path, it.message) for it in caught.value.problems}
    assert told >= {
        ("nonces.n-1", "duplicate"),
        ("nonces[0].hostname", "missing"),
        ("revocations.web-03", "duplicate"),
        ("revocations[0].not_before", "without an offset"),
        ("revocations[1].because", "unknown key"),
    }
    assert any("no-token.json" in path for path, _ in told)
