"""Identity rules: which key a key id stands for, when a key is revoked, and which hosts may enroll. Pure, no I/O.

A `KeyRing` is immutable: the engine makes a new one when an enrollment, a fleet or a revocation is committed, and
request authentication uses the latest. Verifying a request's signature is not part of this module.
Source: docs/spec/trust.md, Hosts; docs/spec/trust.md, Enrollment;
docs/spec/trust.md, Revocations; docs/spec/trust.md, Operators.
"""

from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import Self, TypeAlias, assert_never

from attrs import evolve, frozen

from nixfleet_proto.codec import format_time
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
)
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import (
    NoOrgRootKey,
    VerifyError,
    fingerprint_of,
    read_public_key,
    require_token_signed,
    verify_token,
)
from nixfleet_proto.trust import Operator, TrustedKey, TrustRoot
from nixfleet_runtime.http.signing.key_id import (
    HostSubject,
    OperatorSubject,
    host_key_id,
    subject_of,
)
from nixfleet_runtime.http.signing.refusal import RevokedKey


@frozen
class EnrolledHost:
    """A host that enrolled with a token, its key, and when it enrolled."""

    hostname: str
    public_key: TrustedKey
    enrolled_at: datetime


@frozen
class UsedNonce:
    """The nonce of a token that a host enrolled with, and the key it enrolled. Kept until `expires_at`."""

    nonce: str
    hostname: str
    public_key: TrustedKey
    expires_at: datetime


@frozen
class KeyRing:
    """Every key whose signed requests are accepted.

    The key that the signed fleet declares for a host takes precedence over the one it enrolled with. A revocation
    invalidates both; only an enrollment at or after `not_before` is valid again. A fleet signed since then does not
    restore its declared key, because fleets are re-signed every hour without anyone deciding anything.
    """

    operators: FrozenMap[str, Operator] = FrozenMap()
    enrolled: FrozenMap[str, EnrolledHost] = FrozenMap()
    fleet_keys: FrozenMap[str, TrustedKey] = FrozenMap()
    revoked: FrozenMap[str, Revocation] = FrozenMap()

    @classmethod
    def of(cls, trust: TrustRoot) -> Self:
        """Return the ring of a control plane that has only its trust file."""
        return cls(FrozenMap((operator.name, operator) for operator in trust.operators))

    def with_host(self, host: EnrolledHost) -> "KeyRing":
        """Return the ring with `host` enrolled, replacing any earlier enrollment under its name."""
        return evolve(self, enrolled=self.enrolled.with_item(host.hostname, host))

    def with_fleet(self, fleet: FleetResolved) -> "KeyRing":
        """Return the ring whose declared keys are exactly the `pubkey`s of `fleet`.

        A `pubkey` that is not an ed25519 key, in hex or OpenSSH form, counts as none.
        """
        keys = (
            (name, read_public_key(host.pubkey))
            for name, host in fleet.hosts.items()
            if host.pubkey is not None
        )
        return evolve(
            self, fleet_keys=FrozenMap((name, key) for name, key in keys if key is not None)
        )

    def with_revocations(self, revocations: Revocations) -> "KeyRing":
        """Return the ring in which exactly `revocations` are in force; of two for one host, the later one counts."""
        in_order = sorted(revocations.revocations, key=lambda revocation: revocation.not_before)
        return evolve(
            self, revoked=FrozenMap((revocation.hostname, revocation) for revocation in in_order)
        )

    def key_of(self, key_id: str) -> TrustedKey | None:
        """Return the key that `key_id` stands for, `None` if it is unknown: the `keys` of `verify_request`.

        Raises: RevokedKey.
        """
        subject = subject_of(key_id)
        match subject:
            case HostSubject(hostname):
                return self._key_of_host(hostname)
            case OperatorSubject(name):
                operator = self.operators.get(name)
                return None if operator is None else operator.public_key
            case None:
                return None
            case _:
                assert_never(subject)

    def is_revoked(self, hostname: str) -> bool:
        """Return whether a revocation takes away every key that the host has."""
        revocation, host = self.revoked.get(hostname), self.enrolled.get(hostname)
        return revocation is not None and (host is None or host.enrolled_at < revocation.not_before)

    def operator_of(self, key_id: str) -> Operator | None:
        """Return the operator whose key id this is; `None` if there is no such operator."""
        subject = subject_of(key_id)
        return self.operators.get(subject.name) if isinstance(subject, OperatorSubject) else None

    def _key_of_host(self, hostname: str) -> TrustedKey | None:
        revocation = self.revoked.get(hostname)
        declared = self.fleet_keys.get(hostname)
        if declared is not None and revocation is None:
            return declared
        host = self.enrolled.get(hostname)
        if host is not None and (revocation is None or host.enrolled_at >= revocation.not_before):
            return host.public_key
        key = declared or (None if host is None else host.public_key)
        if revocation is None or key is None:
            return None
        raise RevokedKey(host_key_id(hostname), revocation.not_before, key)


@frozen
class TokenRefused:
    """The token is invalid, regardless of who presents it; `reason` says why."""

    hostname: str
    reason: VerifyError

    def __str__(self) -> str:
        return f"the token for {self.hostname!r} is refused: {self.reason}"


@frozen
class SignedByAnother:
    """The request is not signed with the key that it asks to enroll."""

    hostname: str
    public_key: str
    signer: str

    def __str__(self) -> str:
        return (
            f"expected the enrollment of {self.hostname!r} to be signed with the key that it enrolls, "
            f"{self.public_key}; found it signed with {self.signer}"
        )


@frozen
class WrongFingerprint:
    """The token was issued for another key."""

    hostname: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"the token for {self.hostname!r} was issued for the key with fingerprint {self.expected}; "
            f"found {self.found}: issue a token for the key that the host has"
        )


@frozen
class NonceNotListed:
    """The token's nonce is not on the signed list for this host, or its entry has expired."""

    hostname: str
    nonce: str
    expired_at: datetime | None = None

    def __str__(self) -> str:
        if self.expired_at is not None:
            return (
                f"nonce {self.nonce!r} was valid for {self.hostname!r} until "
                f"{format_time(self.expired_at)}: issue a new token"
            )
        return (
            f"bootstrap-nonces.json has no nonce {self.nonce!r} for {self.hostname!r}: "
            "add it and publish a release, or wait until the release has been read"
        )


@frozen
class NonceUsed:
    """The nonce has already been used to enroll."""

    hostname: str
    nonce: str

    def __str__(self) -> str:
        return (
            f"nonce {self.nonce!r} for {self.hostname!r} was already used: issue a new token; if this host did not "
            "use it, find out who did"
        )


@frozen
class DeclaredOtherwise:
    """The signed fleet declares another key for this host, and the declared key takes precedence."""

    hostname: str
    declared: str
    found: str

    def __str__(self) -> str:
        return (
            f"the fleet declares key {self.declared} for {self.hostname!r}; found {self.found} in the request: "
            "change or remove the host's pubkey in the declaration"
        )


@frozen
class RevokedUntil:
    """A revocation with a `not_before` in the future would invalidate the new key at once."""

    hostname: str
    not_before: datetime

    def __str__(self) -> str:
        return (
            f"keys that {self.hostname!r} enrolls before {format_time(self.not_before)} are revoked: "
            "enroll at or after that time"
        )


EnrollmentObjection: TypeAlias = (
    TokenRefused
    | SignedByAnother
    | WrongFingerprint
    | NonceNotListed
    | NonceUsed
    | DeclaredOtherwise
    | RevokedUntil
)
"""Why a host may not enroll. `str` of one is a message for people."""


def claimed_key(request: EnrollRequest) -> Callable[[str], TrustedKey | None]:
    """Return the `keys` of `verify_request` for an enrollment, which is signed with the key that it enrolls."""
    key_id = host_key_id(request.token.token.hostname)
    return lambda asked: read_public_key(request.public_key) if asked == key_id else None


def is_repeated(
    request: EnrollRequest, ring: KeyRing, used_nonces: Mapping[str, UsedNonce]
) -> bool:
    """Return whether `request` repeats an enrollment that was granted and is still valid.

    A host repeats it when the response was lost. The repetition grants nothing new, so its token need not be valid any
    more. Its signature has already been verified with the key it enrolls.
    """
    token = request.token.token
    used, host = used_nonces.get(token.nonce), ring.enrolled.get(token.hostname)
    if used is None or host is None or used.hostname != token.hostname:
        return False
    if read_public_key(request.public_key) != host.public_key or host.public_key != used.public_key:
        return False
    revocation = ring.revoked.get(token.hostname)
    return revocation is None or host.enrolled_at >= revocation.not_before


def token_objection(
    request: EnrollRequest, ring: KeyRing, trust: TrustRoot | None
) -> TokenRefused | WrongFingerprint | None:
    """Return what is wrong with the token of `request`, without its time; `None` if nothing is.

    To be asked before anything is kept for who sent the request: a token for another key, or one that the org root key
    did not sign, is anybody's. The key that the host is enrolled with needs no token.
    """
    token, key = request.token.token, read_public_key(request.public_key)
    host = ring.enrolled.get(token.hostname)
    if host is not None and host.public_key == key:
        return None
    if trust is None:
        return TokenRefused(token.hostname, NoOrgRootKey())
    try:
        require_token_signed(request.token, trust)
        found = request.public_key if key is None else fingerprint_of(key)
    except VerifyError as error:
        return TokenRefused(token.hostname, error)
    if found != token.expected_pubkey_fingerprint.lower():
        return WrongFingerprint(token.hostname, token.expected_pubkey_fingerprint, found)
    return None


def nonce_kept_until(token: BootstrapToken, nonces: BootstrapNonces | None) -> datetime:
    """Return when the nonce of `token` may be forgotten: once both the token and its list entry have expired."""
    listed = None if nonces is None else _listed(token, nonces)
    return token.expires_at if listed is None else max(token.expires_at, listed.expires_at)


def enrollment_objection(
    request: EnrollRequest,
    signer: TrustedKey,
    *,
    ring: KeyRing,
    nonces: BootstrapNonces | None,
    used_nonces: Container[str],
    trust: TrustRoot,
    now: datetime,
) -> EnrollmentObjection | None:
    """Return why the host of `request` may not enroll; `None` if it may.

    signer: the key that verified the request's signature, under the key id of the token's host; see `claimed_key`.
    nonces: the signed list in force, if any. used_nonces: those of every enrollment so far; each may be forgotten at
    `nonce_kept_until`. An enrolled host may enroll again: issuing the token permits it.
    """
    try:
        token = verify_token(request.token, trust, now)
        fingerprint = fingerprint_of(signer)
    except VerifyError as error:
        return TokenRefused(request.token.token.hostname, error)
    key = read_public_key(request.public_key)
    if key is None or fingerprint_of(key) != fingerprint:
        return SignedByAnother(token.hostname, request.public_key, signer.public_key)
    if fingerprint != token.expected_pubkey_fingerprint.lower():
        return WrongFingerprint(token.hostname, token.expected_pubkey_fingerprint, fingerprint)
    return _nonce_objection(token, nonces, used_nonces, now) or _ring_objection(
        token.hostname, key, ring, now
    )


def _nonce_objection(
    token: BootstrapToken,
    nonces: BootstrapNonces | None,
    used_nonces: Container[str],
    now: datetime,
) -> NonceUsed | NonceNotListed | None:
    if token.nonce in used_nonces:
        return NonceUsed(token.hostname, token.nonce)
    listed = None if nonces is None else _listed(token, nonces)
    if listed is None:
        return NonceNotListed(token.hostname, token.nonce)
    if now >= listed.expires_at:
        return NonceNotListed(token.hostname, token.nonce, listed.expires_at)
    return None


def _listed(token: BootstrapToken, nonces: BootstrapNonces) -> BootstrapNonce | None:
    for nonce in nonces.nonces:
        if nonce.nonce == token.nonce and nonce.hostname == token.hostname:
            return nonce
    return None


def _ring_objection(
    hostname: str, key: TrustedKey, ring: KeyRing, now: datetime
) -> DeclaredOtherwise | RevokedUntil | None:
    """Return why an enrollment would have no effect. Accepting it then would be worse than refusing it."""
    revocation = ring.revoked.get(hostname)
    if revocation is not None:
        early = now < revocation.not_before
        return RevokedUntil(hostname, revocation.not_before) if early else None
    declared = ring.fleet_keys.get(hostname)
    if declared is not None and declared != key:
        return DeclaredOtherwise(hostname, declared.public_key, key.public_key)
    return None
