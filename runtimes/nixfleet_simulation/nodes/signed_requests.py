"""Requests of hosts as they are on their way: encoded, signed, and admitted, by the production code.

In most seeds a keyed hash stands for ed25519, which takes longer than all the rest of a request and finds nothing that
one seed in a few would not. Nonces, times, digests, key ids and their order are the production code's in every seed.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_control_plane.http.earlier_commands import FRESH_SECONDS
from nixfleet_control_plane.messages.key_ring import KeyRing, claimed_key
from nixfleet_proto.codec import encode_enroll_request, encode_envelope, encode_event_batch
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.signing import Signer, SigningKey, is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.http.bodies import encode_heartbeat
from nixfleet_runtime.http.paths import (
    AGENT_DISPATCH,
    AGENT_EVENT_BATCHES,
    AGENT_EVENTS,
    AGENT_HEARTBEAT,
    ENROLL,
    rollout_path,
)
from nixfleet_runtime.http.signing.key_id import HostSubject, host_key_id, subject_of
from nixfleet_runtime.http.signing.nonces import ENROLLMENTS_MAX, NonceMemory
from nixfleet_runtime.http.signing.requests import (
    SignatureCheck,
    require_digest,
    sign_request,
    verify_head,
    verify_request,
)
from nixfleet_runtime.transport import Heartbeat
from nixfleet_simulation.nodes.agenda import SECOND

# What hosts ask.


@frozen
class SendEvents:
    envelopes: tuple[AgentEventEnvelope, ...]


@frozen
class AskDispatch:
    """wait: microseconds that the poll may last."""

    wait: int


@frozen
class FetchManifest:
    rollout_id: str


Request: TypeAlias = SendEvents | AskDispatch | FetchManifest | Heartbeat | EnrollRequest


# Signatures.


@frozen
class KeyedHash:
    """Signs with a keyed hash in the place of the private half of `public_key`. Nobody in a simulation forges one."""

    public_key: TrustedKey

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes, which `is_hashed_by` recognises."""
        key = bytes.fromhex(self.public_key.public_key)
        return hashlib.blake2b(message, key=key).digest()


def is_hashed_by(key: TrustedKey, message: bytes, signature: bytes) -> bool:
    """Return whether `key` made `signature`, as `is_signed_by` does for ed25519."""
    return hmac.compare_digest(KeyedHash(key).sign(message), signature)


@frozen
class Signatures:
    """Which signatures requests have. are_real: ed25519."""

    are_real: bool

    def signer_of(self, key: SigningKey) -> Signer:
        """Return what signs requests as `key` would."""
        return key if self.are_real else KeyedHash(key.public_key)

    @property
    def check(self) -> SignatureCheck:
        """What checks them."""
        return is_signed_by if self.are_real else is_hashed_by


@frozen
class SignedRequest:
    """A request on its way, and what is true of it, whatever it says.

    number: of its signature; a repeated request has the same one. hostname: who it says it is from. signed_with: the
    public key that signed it, in hex. created: the signer's time, in seconds since 1970. is_altered: whether its body
    is another than the signed one.
    """

    request: Request
    method: str
    target: str
    body: bytes
    headers: Mapping[str, str]
    number: int
    hostname: str
    signed_with: str
    created: int
    is_altered: bool = False


class RequestSigner:
    """Signs requests, each with a nonce of its own."""

    def __init__(self, signatures: Signatures) -> None:
        self._signatures = signatures
        self._count = 0

    def signed(
        self, request: Request, hostname: str, key: SigningKey, now: datetime
    ) -> SignedRequest:
        """Return `request` as `hostname`, signed with `key`."""
        self._count += 1
        method, target, body = _encoded(request)
        signer = self._signatures.signer_of(key)
        nonce = f"nonce-{self._count}"
        headers = sign_request(signer, host_key_id(hostname), method, target, body, now, nonce)
        return SignedRequest(
            request,
            method,
            target,
            body,
            headers,
            self._count,
            hostname,
            signer.public_key.public_key,
            int(now.timestamp()),
        )


def _encoded(request: Request) -> tuple[str, str, bytes]:
    """Return method, target and body, as `http_transport` has them."""
    match request:
        case AskDispatch():
            return "GET", f"{AGENT_DISPATCH}?wait={round(request.wait / SECOND)}", b""
        case Heartbeat():
            return "POST", AGENT_HEARTBEAT, encode_heartbeat(request)
        case SendEvents():
            first, *others = request.envelopes
            if not others:
                return "POST", AGENT_EVENTS, encode_envelope(first)
            return "POST", AGENT_EVENT_BATCHES, encode_event_batch(EventBatch(request.envelopes))
        case FetchManifest():
            return "GET", rollout_path(request.rollout_id), b""
        case EnrollRequest():
            return "POST", ENROLL, encode_enroll_request(request)
        case _:
            assert_never(request)


class RequestGate:
    """What one run of a control plane asks of a request first: the steps of `http.authentication`, in their order."""

    def __init__(self, check: SignatureCheck, started_at: datetime) -> None:
        self._check = check
        self._nonces = NonceMemory(FRESH_SECONDS, started_at)
        since = started_at - timedelta(seconds=FRESH_SECONDS)
        self._enrollments = NonceMemory(FRESH_SECONDS, since, limit=ENROLLMENTS_MAX)

    def require_host(self, signed: SignedRequest, ring: KeyRing, now: datetime) -> None:
        """Return if the host that the request names has signed it. Raises: RequestRefused."""
        claims = verify_head(
            signed.method,
            signed.target,
            signed.headers,
            ring.key_of,
            self._nonces,
            now,
            is_good=self._check,
        )
        subject = subject_of(claims.key_id)
        assert subject == HostSubject(signed.hostname), claims
        self._nonces.take(claims.key_id, claims.nonce, claims.created, now)
        require_digest(claims, signed.body)

    def enrolling_key(
        self, signed: SignedRequest, request: EnrollRequest, now: datetime
    ) -> TrustedKey:
        """Return the key that `request` brings and is signed with. Raises: RequestRefused."""
        keys = claimed_key(request)
        key_id = verify_request(
            signed.method,
            signed.target,
            signed.headers,
            signed.body,
            keys,
            self._enrollments,
            now,
            is_good=self._check,
        )
        key = keys(key_id)
        assert key is not None, "a key that has just been used is known"
        return key
