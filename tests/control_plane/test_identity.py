"""Whose key counts, and who may enroll: every rule by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.key_ring import (
    DeclaredOtherwise,
    EnrolledHost,
    EnrollmentObjection,
    KeyRing,
    NonceNotListed,
    NonceUsed,
    RevokedUntil,
    SignedByAnother,
    TokenRefused,
    WrongFingerprint,
    claimed_key,
    enrollment_objection,
)
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
)
from nixfleet_proto.fleet import FleetHost, FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import (
    BadSignature,
    SigningKey,
    TokenExpired,
    fingerprint_of,
    sign_token,
)
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot
from nixfleet_runtime.http.signing.key_id import host_key_id, operator_key_id
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import RevokedKey
from nixfleet_runtime.http.signing.requests import sign_request, verify_request

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CI, ORG_ROOT, OLD, NEW, DECLARED, ADA = (SigningKey(bytes([number]) * 32) for number in range(6))
OPERATOR = Operator("Ada", ADA.public_key, OperatorRole.OPERATE)
TRUST = TrustRoot(KeySlot(CI.public_key), KeySlot(ORG_ROOT.public_key), (OPERATOR,))
WEB = host_key_id("web-01")
TOKEN = BootstrapToken("web-01", fingerprint_of(NEW.public_key), NOW - HOUR, NOW + HOUR, "n-1")
NONCES = BootstrapNonces((BootstrapNonce("n-1", "web-01", NOW + HOUR),), Meta(NOW))
EMPTY = KeyRing.of(TRUST)


def enrolled(key: SigningKey = OLD, at: datetime = NOW) -> EnrolledHost:
    return EnrolledHost("web-01", key.public_key, at)


def fleet(**pubkeys: str | None) -> FleetResolved:
    """A fleet in which web_01 stands for web-01."""
    hosts = {
        name.replace("_", "-"): FleetHost("stable", pubkey=pubkey)
        for name, pubkey in pubkeys.items()
    }
    return FleetResolved(FrozenMap(hosts), FrozenMap(), FrozenMap(), FrozenMap(), Meta(NOW))


def revoked(*not_before: datetime) -> Revocations:
    return Revocations(tuple(Revocation("web-01", at) for at in not_before), Meta(NOW))


DECLARING = EMPTY.with_fleet(fleet(web_01=DECLARED.public_key.public_key))


def test_a_new_ring_knows_the_operators_of_the_trust_file_and_no_host() -> None:
    """A control plane that has nothing else still obeys its operators."""
    assert EMPTY.key_of(operator_key_id("Ada")) == ADA.public_key
    assert EMPTY.operator_of(operator_key_id("Ada")) == OPERATOR
    assert EMPTY.key_of(WEB) is None


@pytest.mark.parametrize("key_id", ["", "Ada", "host:Ada", "operator:ada", "operator:Eve"])
def test_a_key_id_that_names_nobody_has_neither_key_nor_role(key_id: str) -> None:
    """A host's name is no operator's, and names are exact."""
    assert EMPTY.key_of(key_id) is None
    assert EMPTY.operator_of(key_id) is None


def test_an_enrolled_host_is_known_by_its_latest_key() -> None:
    """A host that enrolls again has its new key alone."""
    ring = EMPTY.with_host(enrolled(OLD)).with_host(enrolled(NEW))

    assert ring.key_of(WEB) == NEW.public_key
    assert ring.operator_of(WEB) is None


def test_a_host_that_the_fleet_gives_a_key_is_known_by_that() -> None:
    """What is declared goes before what was enrolled."""
    assert DECLARING.key_of(WEB) == DECLARED.public_key
    assert DECLARING.with_host(enrolled()).key_of(WEB) == DECLARED.public_key


def test_a_key_that_the_next_fleet_no_longer_names_is_not_known_any_more() -> None:
    """The fleet in force counts, not those before it; what was enrolled counts again."""
    ring = DECLARING.with_fleet(fleet(web_01=None))

    assert ring.key_of(WEB) is None
    assert ring.with_host(enrolled()).key_of(WEB) == OLD.public_key


def test_a_declared_key_that_cannot_be_used_is_as_good_as_none() -> None:
    """A key of another kind lets nobody in and does not hide the one that was enrolled."""
    ring = EMPTY.with_host(enrolled()).with_fleet(fleet(web_01="ssh-rsa AAAA", web_02="?"))

    assert ring.key_of(WEB) == OLD.public_key
    assert ring.key_of(host_key_id("web-02")) is None


def test_a_key_enrolled_before_its_revocation_is_refused_and_one_enrolled_from_then_on_is_not() -> (
    None
):
    """The moment itself is on the good side."""
    ring = EMPTY.with_host(enrolled(at=NOW - timedelta(microseconds=1))).with_revocations(
        revoked(NOW)
    )

    with pytest.raises(RevokedKey) as refusal:
        ring.key_of(WEB)

    assert (refusal.value.key_id, refusal.value.not_before) == (WEB, NOW)
    assert ring.with_host(enrolled(NEW, at=NOW)).key_of(WEB) == NEW.public_key


def test_a_request_signed_before_a_revocation_is_refused_after_it() -> None:
    """What counts is the ring at the time at which the request is checked."""
    ring = EMPTY.with_host(enrolled())
    nonces = NonceMemory(60, NOW)

    def verified(ring: KeyRing, nonce: str) -> str:
        headers = sign_request(OLD, WEB, "GET", "/v1/agent/dispatch", b"", NOW, nonce)
        return verify_request("GET", "/v1/agent/dispatch", headers, b"", ring.key_of, nonces, NOW)

    assert verified(ring, "n-1") == WEB
    with pytest.raises(RevokedKey):
        verified(ring.with_revocations(revoked(NOW + HOUR)), "n-2")


def test_a_declared_key_of_a_revoked_host_is_refused_however_often_the_fleet_is_signed() -> None:
    """Signing a fleet again decides nothing about its keys; only an enrollment brings the host back."""
    ring = DECLARING.with_revocations(revoked(NOW - HOUR)).with_fleet(
        fleet(web_01=DECLARED.public_key.public_key)
    )

    with pytest.raises(RevokedKey):
        ring.key_of(WEB)
    assert ring.with_host(enrolled(NEW)).key_of(WEB) == NEW.public_key


def test_of_two_revocations_of_a_host_the_later_is_in_force() -> None:
    """A second entry never brings back what the first took away."""
    early, late = NOW - HOUR, NOW + HOUR
    for both in ((early, late), (late, early)):
        ring = EMPTY.with_host(enrolled()).with_revocations(revoked(*both))
        with pytest.raises(RevokedKey) as refusal:
            ring.key_of(WEB)
        assert refusal.value.not_before == late


def test_a_revocation_that_was_taken_back_is_over() -> None:
    """The list in force counts, not those before it."""
    ring = EMPTY.with_host(enrolled(at=NOW - HOUR)).with_revocations(revoked(NOW))

    assert ring.with_revocations(revoked()).key_of(WEB) == OLD.public_key


def test_a_revocation_of_an_unknown_host_says_no_more_than_that_it_is_unknown() -> None:
    """A list of revocations may name hosts that never were."""
    assert EMPTY.with_revocations(revoked(NOW)).key_of(WEB) is None


REQUEST = EnrollRequest(sign_token(TOKEN, ORG_ROOT), NEW.public_key.public_key)


def objection(
    request: EnrollRequest = REQUEST,
    signer: TrustedKey = NEW.public_key,
    ring: KeyRing = EMPTY,
    nonces: BootstrapNonces = NONCES,
    used_nonces: frozenset[str] = frozenset(),
    now: datetime = NOW,
) -> EnrollmentObjection | None:
    return enrollment_objection(
        request,
        signer,
        ring=ring,
        nonces=nonces,
        used_nonces=used_nonces,
        trust=TRUST,
        now=now,
    )


def test_a_host_with_a_good_token_a_listed_nonce_and_the_right_key_may_enroll() -> None:
    """Nothing is held against an enrollment that is as it should be, also not a second one."""
    assert objection() is None
    assert objection(ring=EMPTY.with_host(enrolled())) is None


def test_an_enrollment_is_signed_by_the_key_it_brings_in_the_name_of_its_host() -> None:
    """The request itself is checked against what it claims: no other id, no other key."""
    keys = claimed_key(REQUEST)

    assert keys(WEB) == NEW.public_key
    assert keys(host_key_id("web-02")) is None
    assert claimed_key(evolve(REQUEST, public_key="no key"))(WEB) is None


def test_an_enrollment_with_a_bad_token_is_refused_with_the_reason() -> None:
    """Why a token is not good is kept as the verifier said it."""
    forged = objection(evolve(REQUEST, token=sign_token(TOKEN, CI)))
    expired = objection(now=NOW + HOUR)

    assert isinstance(forged, TokenRefused)
    assert isinstance(forged.reason, BadSignature)
    assert isinstance(expired, TokenRefused)
    assert isinstance(expired.reason, TokenExpired)
    assert "expired 2026-05-16T13:00:00Z" in str(expired)


@pytest.mark.parametrize("public_key", [OLD.public_key.public_key, "no key"])
def test_an_enrollment_signed_by_another_key_than_it_brings_is_refused(public_key: str) -> None:
    """Who enrolls has to have the private half."""
    found = objection(evolve(REQUEST, public_key=public_key))

    assert found == SignedByAnother("web-01", public_key, NEW.public_key.public_key)


def test_an_enrollment_with_a_key_that_the_token_is_not_made_out_to_is_refused() -> None:
    """A stolen token is of no use without the host's key."""
    stolen = evolve(REQUEST, public_key=OLD.public_key.public_key)

    assert objection(stolen, OLD.public_key) == WrongFingerprint(
        "web-01", fingerprint_of(NEW.public_key), fingerprint_of(OLD.public_key)
    )


def test_the_digits_of_keys_and_fingerprints_may_be_written_either_way() -> None:
    """Hexadecimal has two spellings, and both mean the same key."""
    token = evolve(TOKEN, expected_pubkey_fingerprint=TOKEN.expected_pubkey_fingerprint.upper())
    key = NEW.public_key.public_key.upper()

    assert objection(EnrollRequest(sign_token(token, ORG_ROOT), key), TrustedKey(key)) is None


@pytest.mark.parametrize(
    "listed",
    [
        (),
        (BootstrapNonce("n-2", "web-01", NOW + HOUR),),
        (BootstrapNonce("n-1", "web-02", NOW + HOUR),),
    ],
)
def test_an_enrollment_whose_nonce_is_not_listed_for_the_host_is_refused(
    listed: tuple[BootstrapNonce, ...],
) -> None:
    """A nonce is one host's."""
    assert objection(nonces=evolve(NONCES, nonces=listed)) == NonceNotListed("web-01", "n-1")


def test_an_enrollment_whose_nonce_is_no_longer_good_is_refused() -> None:
    """An entry of the list ends by itself, from its very moment on."""
    nonces = evolve(NONCES, nonces=(BootstrapNonce("n-1", "web-01", NOW),))

    assert objection(nonces=nonces) == NonceNotListed("web-01", "n-1", NOW)
    assert objection(nonces=nonces, now=NOW - timedelta(microseconds=1)) is None


def test_an_enrollment_with_a_nonce_that_was_used_is_refused() -> None:
    """A token is good once, for the same host and key too."""
    assert objection(used_nonces=frozenset({"n-1"})) == NonceUsed("web-01", "n-1")


def test_an_enrollment_with_another_key_than_the_declared_one_is_refused() -> None:
    """It would succeed and not count: the declared key goes before it."""
    assert objection(ring=DECLARING) == DeclaredOtherwise(
        "web-01", DECLARED.public_key.public_key, NEW.public_key.public_key
    )
    same = EMPTY.with_fleet(fleet(web_01=NEW.public_key.public_key.upper()))
    assert objection(ring=same) is None


def test_an_enrollment_after_a_revocation_brings_the_host_back_and_one_before_it_is_refused() -> (
    None
):
    """A revocation ends at its `not_before`, whatever the fleet declares."""
    assert objection(ring=DECLARING.with_revocations(revoked(NOW))) is None
    assert objection(ring=EMPTY.with_revocations(revoked(NOW + HOUR))) == RevokedUntil(
        "web-01", NOW + HOUR
    )


def test_what_is_said_against_an_enrollment_names_the_host() -> None:
    """Every objection can be read by whoever has to act on it."""
    objections = (
        objection(now=NOW + HOUR),
        objection(evolve(REQUEST, public_key="no key")),
        objection(evolve(REQUEST, public_key=OLD.public_key.public_key), OLD.public_key),
        objection(nonces=evolve(NONCES, nonces=())),
        objection(nonces=evolve(NONCES, nonces=(BootstrapNonce("n-1", "web-01", NOW),))),
        objection(used_nonces=frozenset({"n-1"})),
        objection(ring=DECLARING),
        objection(ring=EMPTY.with_revocations(revoked(NOW + HOUR))),
    )

    assert all("'web-01'" in str(found) for found in objections)
