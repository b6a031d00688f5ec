"""Verifying tokens, the list of nonces, and revocations: every refusal with its facts."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_proto.codec import (
    DecodeError,
    decode_signed_token,
    encode_bootstrap_nonces,
    encode_revocations,
    encode_signed_token,
)
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.fleet import Meta
from nixfleet_proto.signing import (
    CLOCK_SKEW,
    BadSignature,
    MalformedArtefact,
    MalformedKey,
    MalformedSignature,
    NoOrgRootKey,
    RejectedAsCompromised,
    SigningKey,
    Stale,
    TokenExpired,
    TokenNotYetIssued,
    VerifyError,
    fingerprint_of,
    read_public_key,
    sign_artefact,
    sign_token,
    verify_nonces,
    verify_revocations,
    verify_token,
)
from nixfleet_proto.trust import KeySlot, TrustedKey, TrustRoot

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
WINDOW_MINUTES = 180
CI, ORG_ROOT, NEXT_ORG_ROOT, STRANGER, HOST = (
    SigningKey(bytes([number]) * 32) for number in (1, 2, 3, 4, 5)
)
TRUST = TrustRoot(KeySlot(CI.public_key), KeySlot(ORG_ROOT.public_key))
TOKEN = BootstrapToken("web-01", fingerprint_of(HOST.public_key), NOW - HOUR, NOW + HOUR, "n-1")


def _refusal(signed: SignedToken, trust: TrustRoot = TRUST, now: datetime = NOW) -> VerifyError:
    with pytest.raises(VerifyError) as refusal:
        verify_token(signed, trust, now)
    return refusal.value


def test_a_token_signed_by_the_org_root_key_is_accepted_within_its_time() -> None:
    """A good token comes out as it was issued."""
    assert verify_token(sign_token(TOKEN, ORG_ROOT), TRUST, NOW) == TOKEN


def test_a_token_signed_by_the_previous_org_root_key_is_accepted_until_that_is_taken_out() -> None:
    """A rotation of the org root key has a time in which both are good."""
    signed = sign_token(TOKEN, ORG_ROOT)
    rotated = KeySlot(NEXT_ORG_ROOT.public_key)
    rotating = evolve(rotated, previous=ORG_ROOT.public_key)

    assert verify_token(signed, evolve(TRUST, org_root_key=rotating), NOW) == TOKEN
    assert isinstance(_refusal(signed, evolve(TRUST, org_root_key=rotated)), BadSignature)


@pytest.mark.parametrize("key", [STRANGER, CI])
def test_a_token_signed_by_any_other_key_is_refused(key: SigningKey) -> None:
    """Not even the CI release key can let a host in."""
    refusal = _refusal(sign_token(TOKEN, key))

    assert isinstance(refusal, BadSignature)
    assert refusal.tried == (ORG_ROOT.public_key.public_key,)


@pytest.mark.parametrize(
    "changed",
    [
        evolve(TOKEN, hostname="web-02"),
        evolve(TOKEN, expected_pubkey_fingerprint=fingerprint_of(STRANGER.public_key)),
        evolve(TOKEN, issued_at=TOKEN.issued_at - SECOND),
        evolve(TOKEN, expires_at=TOKEN.expires_at + SECOND),
        evolve(TOKEN, nonce="n-2"),
    ],
)
def test_a_signature_moved_to_another_token_is_refused(changed: BootstrapToken) -> None:
    """Every part of a token is signed."""
    moved = SignedToken(changed, sign_token(TOKEN, ORG_ROOT).signature)

    assert isinstance(_refusal(moved), BadSignature)


def test_a_token_with_any_one_bit_flipped_is_refused() -> None:
    """Whatever is changed in a token file, its names, its values or its signature, it is void."""
    text = encode_signed_token(sign_token(TOKEN, ORG_ROOT))

    for at in range(len(text)):
        for bit in range(8):
            flipped = text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]
            with pytest.raises((DecodeError, VerifyError)):
                verify_token(decode_signed_token(flipped), TRUST, NOW)


@pytest.mark.parametrize("signature", ["", "ab" * 63, "AB" * 64, "xy" * 64])
def test_a_token_whose_signature_cannot_be_one_is_refused_as_malformed(signature: str) -> None:
    """A signature is 128 lower-case hexadecimal digits."""
    assert isinstance(_refusal(SignedToken(TOKEN, signature)), MalformedSignature)


def test_a_token_is_refused_when_the_trust_file_has_no_org_root_key() -> None:
    """Without the key that signs tokens nobody enrolls, and the refusal says what is missing."""
    refusal = _refusal(sign_token(TOKEN, ORG_ROOT), evolve(TRUST, org_root_key=None))

    assert isinstance(refusal, NoOrgRootKey)
    assert "orgRootKey" in str(refusal)


def test_a_token_from_before_the_compromise_switch_is_refused() -> None:
    """Whoever had the org root key before `reject_before` issued tokens for nothing."""
    signed = sign_token(TOKEN, ORG_ROOT)
    since = KeySlot(ORG_ROOT.public_key, reject_before=TOKEN.issued_at)
    later = evolve(since, reject_before=TOKEN.issued_at + SECOND)

    refusal = _refusal(signed, evolve(TRUST, org_root_key=later))

    assert verify_token(signed, evolve(TRUST, org_root_key=since), NOW) == TOKEN
    assert isinstance(refusal, RejectedAsCompromised)
    assert refusal.signed_at == TOKEN.issued_at
    assert refusal.reject_before == TOKEN.issued_at + SECOND


def test_a_token_issued_further_ahead_than_clocks_may_differ_is_refused() -> None:
    """A little ahead is a clock; more is refused."""
    signed = sign_token(TOKEN, ORG_ROOT)
    earliest = TOKEN.issued_at - CLOCK_SKEW

    refusal = _refusal(signed, now=earliest - SECOND)

    assert verify_token(signed, TRUST, earliest) == TOKEN
    assert isinstance(refusal, TokenNotYetIssued)
    assert (refusal.hostname, refusal.issued_at) == ("web-01", TOKEN.issued_at)
    assert refusal.now == earliest - SECOND


def test_a_token_is_refused_from_the_moment_on_at_which_it_expires() -> None:
    """No skew is added to a token's end: its nonce may be forgotten from then on."""
    signed = sign_token(TOKEN, ORG_ROOT)

    refusal = _refusal(signed, now=TOKEN.expires_at)

    assert verify_token(signed, TRUST, TOKEN.expires_at - timedelta(microseconds=1)) == TOKEN
    assert isinstance(refusal, TokenExpired)
    assert str(refusal) == (
        "the token of web-01 expired 2026-05-16T13:00:00Z, it is 2026-05-16T13:00:00Z: issue a new one"
    )


def test_a_fingerprint_is_that_of_the_bytes_of_the_key() -> None:
    """The fingerprint does not depend on how the key's digits are written."""
    key = TrustedKey("ab" * 32)

    assert fingerprint_of(key) == fingerprint_of(TrustedKey("AB" * 32))
    assert fingerprint_of(key) == (
        "9a2db2e23f1504cd056606553ac049c5e718e8f9ce9233876df1a7a1821af885"
    )


def test_a_key_that_is_no_key_has_no_fingerprint() -> None:
    """A broken key is reported as that."""
    with pytest.raises(MalformedKey):
        fingerprint_of(TrustedKey("ab"))


def _openssh(algorithm: bytes, public: bytes) -> str:
    parts = (len(part).to_bytes(4, "big") + part for part in (algorithm, public))
    return f"{algorithm.decode()} {base64.b64encode(b''.join(parts)).decode()}"


def test_a_public_key_is_read_in_hex_and_as_openssh_writes_it() -> None:
    """Declarations may carry a host's key in either spelling, with or without a comment."""
    key = HOST.public_key
    openssh = _openssh(b"ssh-ed25519", bytes.fromhex(key.public_key))

    assert read_public_key(key.public_key) == key
    assert read_public_key(key.public_key.upper()) == key
    assert read_public_key(openssh) == key
    assert read_public_key(f"{openssh} root@web-01\n") == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab" * 31,
        "ssh-ed25519 AAAA",
        "ssh-ed25519 " + "A" * 68,
        _openssh(b"ssh-rsa", bytes(32)),
        _openssh(b"ssh-ed25519", bytes(31)),
        _openssh(b"ssh-ed25519", bytes(33)),
    ],
)
def test_what_is_no_ed25519_key_is_read_as_none(text: str) -> None:
    """A key of another kind, or a piece of one, is not guessed at."""
    assert read_public_key(text) is None


NONCES = BootstrapNonces((BootstrapNonce("n-1", "web-01", NOW + HOUR),), Meta(NOW))
REVOCATIONS = Revocations((Revocation("web-01", NOW),), Meta(NOW))


def test_the_list_of_nonces_is_verified_against_the_ci_release_key() -> None:
    """The allow-list is CI's: the org root key that signs tokens cannot also list them."""
    body = encode_bootstrap_nonces(NONCES)

    verified = verify_nonces(
        sign_artefact(body, CI), TRUST, NOW, freshness_window_minutes=WINDOW_MINUTES
    )

    assert verified.value == NONCES
    with pytest.raises(BadSignature):
        verify_nonces(
            sign_artefact(body, ORG_ROOT), TRUST, NOW, freshness_window_minutes=WINDOW_MINUTES
        )


def test_revocations_are_verified_against_the_ci_release_key_and_must_be_fresh() -> None:
    """An old list of revocations cannot be passed off as the one in force."""
    signed = sign_artefact(encode_revocations(REVOCATIONS), CI)

    verified = verify_revocations(signed, TRUST, NOW, freshness_window_minutes=WINDOW_MINUTES)

    assert verified.value == REVOCATIONS
    with pytest.raises(Stale):
        verify_revocations(signed, TRUST, NOW + 4 * HOUR, freshness_window_minutes=WINDOW_MINUTES)


def test_one_artefact_passed_off_as_another_is_refused_as_malformed() -> None:
    """A validly signed list of nonces is no list of revocations, nor the other way round."""
    nonces = sign_artefact(encode_bootstrap_nonces(NONCES), CI)
    revocations = sign_artefact(encode_revocations(REVOCATIONS), CI)

    with pytest.raises(MalformedArtefact, match="list of revocations"):
        verify_revocations(nonces, TRUST, NOW, freshness_window_minutes=WINDOW_MINUTES)
    with pytest.raises(MalformedArtefact, match="list of bootstrap nonces"):
        verify_nonces(revocations, TRUST, NOW, freshness_window_minutes=WINDOW_MINUTES)
