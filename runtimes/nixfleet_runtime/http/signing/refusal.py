"""Why a request is refused before it is handled: one class per reason, each with its status.

Callers act on the class, or on the problem's type at the other end; the text is for people.
Source: docs/spec/wire.md, Errors; docs/spec/trust.md, Request signatures.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from attrs import define

from nixfleet_proto.codec import format_time
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem


class RequestRefused(NixfleetError):
    """A request is refused; the subclass says why. `name` is the last part of the problem's type."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int] = 401

    @property
    def extensions(self) -> Mapping[str, JsonValue]:
        """The facts that a client can act on, as members of the problem."""
        return FrozenMap()

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response."""
        return FrozenMap()

    def as_problem(self) -> HttpProblem:
        """Return the problem for the response."""
        return HttpProblem(
            TYPE_PREFIX + self.name, self.title, self.status, str(self), self.extensions
        )


@define
class UnsupportedProtocol(RequestRefused):
    """The request has another protocol version, or an invalid one."""

    name = "unsupported-protocol"
    title = "The protocol version is not supported"
    status = 426

    found: str

    def __str__(self) -> str:
        return (
            f"expected protocol version {PROTOCOL_VERSION} in X-Nixfleet-Protocol, found {self.found!r}: "
            "update the older side"
        )


@define
class NotSignedRequest(RequestRefused):
    """The request has no signature with our tag."""

    name = "not-signed"
    title = "The request is not signed"

    missing: str

    def __str__(self) -> str:
        return f"expected a signed request (RFC 9421, tag nixfleet-v1), found no {self.missing}"


@define
class MalformedRequestSignature(RequestRefused):
    """The signature headers are malformed, or do not cover the required components."""

    name = "malformed-signature"
    title = "The request's signature is malformed"

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@define
class UnknownKey(RequestRefused):
    """No key that is known for this key id signed this request.

    The same for an id without a key, for another key and for a request that was changed after signing: a difference
    would tell strangers which key ids have keys.
    """

    name = "unknown-key"
    title = "The key is unknown"

    key_id: str

    def __str__(self) -> str:
        return (
            f"no key that is known for {self.key_id!r} signed this request: enroll the host or declare its key in the "
            "fleet; for an operator, add the key to the trust file. Or the request was changed after signing"
        )


@define
class RevokedKey(RequestRefused):
    """`key` has been revoked. Only whoever signed with it is told so."""

    name = "revoked-key"
    title = "The key is revoked"

    key_id: str
    not_before: datetime
    key: TrustedKey

    def __str__(self) -> str:
        return (
            f"all keys of {self.key_id!r} enrolled before {format_time(self.not_before)}, and the one that the fleet "
            "declares, are revoked: enroll the host again with a new key"
        )


@define
class SkewedClock(RequestRefused):
    """The request was signed too long ago or too far in the future, by the clock of this side.

    skew_seconds: how far the signature's time is ahead of this side's clock; negative if it is behind.
    """

    name = "skewed-clock"
    title = "The request's time differs too much from the server's"

    key_id: str
    skew_seconds: int
    window_seconds: int

    @property
    def extensions(self) -> Mapping[str, JsonValue]:
        """The clock difference and its limit: a client can report the difference, or correct its clock."""
        return FrozenMap({"skewSeconds": self.skew_seconds, "windowSeconds": self.window_seconds})

    def __str__(self) -> str:
        direction = "ahead of" if self.skew_seconds > 0 else "behind"
        return (
            f"the request of {self.key_id!r} was created {abs(self.skew_seconds)} s {direction} the server's clock; "
            f"expected at most {self.window_seconds} s: synchronise the clocks, then sign again"
        )


@define
class SignedBeforeStart(RequestRefused):
    """The request was signed before this side began to remember used nonces."""

    name = "signed-before-start"
    title = "The request was signed before the server started"

    key_id: str
    created: datetime
    good_from: datetime

    def __str__(self) -> str:
        return (
            f"the request of {self.key_id!r} was created at {format_time(self.created)}; expected "
            f"{format_time(self.good_from)} or later, since when used nonces are remembered: sign again"
        )


@define
class ReplayedNonce(RequestRefused):
    """A request with this nonce has been accepted before."""

    name = "replayed-nonce"
    title = "The nonce was already used"

    key_id: str
    nonce: str

    def __str__(self) -> str:
        return (
            f"nonce {self.nonce!r} of {self.key_id!r} was already used: sign again with a new one"
        )


@define
class NonceMemoryFull(RequestRefused):
    """The nonce memory is full, and no nonce may be forgotten yet."""

    name = "too-many-requests"
    title = "Too many signed requests"
    status = 503

    limit: int
    retry_after_seconds: int

    @property
    def headers(self) -> Mapping[str, str]:
        """When to retry."""
        return FrozenMap({"Retry-After": str(self.retry_after_seconds)})

    def __str__(self) -> str:
        return (
            f"the limit of {self.limit} remembered nonces is reached, and none may be forgotten for "
            f"{self.retry_after_seconds} s: sign again after that"
        )


@define
class DigestMismatch(RequestRefused):
    """The body differs from the signed one."""

    name = "digest-mismatch"
    title = "The body differs from the signed one"

    key_id: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.key_id!r} signed a body with digest {self.found}; "
            f"the received body has digest {self.expected}"
        )
