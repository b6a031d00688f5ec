"""Why a request is turned away before anybody looks at what it asks for: a class for each reason, with its status.

Callers act on the class, or on the problem's type on the other side of the wire; the text is for people.
Source: docs/spec/wire.md, Errors; docs/spec/trust.md, Request signatures.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from attrs import define

from nixfleet_proto.codec import format_time
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem


class RequestRefused(Exception):
    """A request is not let in; the subclass says why. `name` is the end of the problem's type."""

    name: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int] = 401

    @property
    def extensions(self) -> Mapping[str, JsonValue]:
        """The facts that the other side can act on, as members of the problem."""
        return FrozenMap()

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that the answer has to carry."""
        return FrozenMap()

    def as_problem(self) -> HttpProblem:
        """Return the answer to the request."""
        return HttpProblem(
            TYPE_PREFIX + self.name, self.title, self.status, str(self), self.extensions
        )


@define
class UnsupportedProtocol(RequestRefused):
    """The request is of another protocol, or of one that has no number."""

    name = "unsupported-protocol"
    title = "Another protocol version"
    status = 426

    found: str

    def __str__(self) -> str:
        return (
            f"expected protocol version {PROTOCOL_VERSION} in X-Nixfleet-Protocol, found {self.found!r}: "
            "update the older side"
        )


@define
class NotSignedRequest(RequestRefused):
    """The request has no signature that is meant for us."""

    name = "not-signed"
    title = "The request is not signed"

    missing: str

    def __str__(self) -> str:
        return f"expected a signed request (RFC 9421, tag nixfleet-v1), found no {self.missing}"


@define
class MalformedRequestSignature(RequestRefused):
    """The signature headers cannot be read, or do not cover what they must."""

    name = "malformed-signature"
    title = "The request's signature is malformed"

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@define
class UnknownKey(RequestRefused):
    """Nobody is known under this key id."""

    name = "unknown-key"
    title = "The key is not known"

    key_id: str

    def __str__(self) -> str:
        return (
            f"no key is known for {self.key_id!r}: a host has to be enrolled or named in the signed fleet, "
            "an operator in the trust file"
        )


@define
class RevokedKey(RequestRefused):
    """The key was known until it was revoked."""

    name = "revoked-key"
    title = "The key is revoked"

    key_id: str
    not_before: datetime

    def __str__(self) -> str:
        return (
            f"every key of {self.key_id!r} from before {format_time(self.not_before)} is revoked, and so is the "
            "one that the fleet names: enroll the host again, with a new key"
        )


@define
class SkewedClock(RequestRefused):
    """The request was signed too long ago, or too far ahead, for the clock of this side.

    skew_seconds: how far the signature's time is ahead of this side's; negative if it is behind.
    """

    name = "skewed-clock"
    title = "The request's time is too far from ours"

    key_id: str
    skew_seconds: int
    window_seconds: int

    @property
    def extensions(self) -> Mapping[str, JsonValue]:
        """By how much, so that the other side can say it or allow for it."""
        return FrozenMap({"skewSeconds": self.skew_seconds, "windowSeconds": self.window_seconds})

    def __str__(self) -> str:
        where = "ahead of" if self.skew_seconds > 0 else "behind"
        return (
            f"the request of {self.key_id!r} was created {abs(self.skew_seconds)} s {where} this side's clock; "
            f"expected at most {self.window_seconds} s: set the clocks right, then sign again"
        )


@define
class SignedBeforeStart(RequestRefused):
    """The request is from a time of which this side cannot know which nonces were used."""

    name = "signed-before-start"
    title = "The request was signed before this side remembers"

    key_id: str
    created: datetime
    good_from: datetime

    def __str__(self) -> str:
        return (
            f"the request of {self.key_id!r} was created at {format_time(self.created)}; used nonces are "
            f"remembered from {format_time(self.good_from)} on: sign again"
        )


@define
class ReplayedNonce(RequestRefused):
    """This request, or another with its nonce, was here before."""

    name = "replayed-nonce"
    title = "The nonce was used before"

    key_id: str
    nonce: str

    def __str__(self) -> str:
        return (
            f"nonce {self.nonce!r} of {self.key_id!r} was used before: sign again, with a new one"
        )


@define
class NonceMemoryFull(RequestRefused):
    """No more nonces can be remembered, and none may be forgotten yet."""

    name = "too-many-requests"
    title = "Too many signed requests at once"
    status = 503

    limit: int
    retry_after_seconds: int

    @property
    def headers(self) -> Mapping[str, str]:
        """When there is room again."""
        return FrozenMap({"Retry-After": str(self.retry_after_seconds)})

    def __str__(self) -> str:
        return (
            f"{self.limit} nonces are remembered, which is the limit; none may be forgotten for "
            f"{self.retry_after_seconds} s: sign again then"
        )


@define
class BadRequestSignature(RequestRefused):
    """The key did not sign this: another did, or the request was changed since."""

    name = "bad-signature"
    title = "The signature is not good"

    key_id: str
    why: str

    def __str__(self) -> str:
        return f"the signature is not that of {self.key_id!r} over this request: {self.why}"


@define
class DigestMismatch(RequestRefused):
    """The body is not the one that was signed."""

    name = "digest-mismatch"
    title = "The body is not the one that was signed"

    key_id: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.key_id!r} signed a body with the digest {self.found}; "
            f"the one that came has {self.expected}"
        )
