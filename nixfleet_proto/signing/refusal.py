"""Refusals of verification: a class for each reason, with its facts as attributes.

Callers act on the class; the text is for people. Key material in it is public.
Source: docs/spec/trust.md, Artefacts; docs/spec/trust.md, Enrollment.
"""

from datetime import datetime, timedelta

from attrs import define

from nixfleet_proto.codec.primitives import format_time
from nixfleet_proto.codec.problem import DecodeProblem
from nixfleet_proto.errors import NixfleetError

CLOCK_SKEW = timedelta(seconds=60)


class VerifyError(NixfleetError):
    """Verification failed. The subclass is the reason."""


@define
class MalformedArtefact(VerifyError):
    """The bytes are not valid JSON of the expected type, or have no canonical form."""

    what: str
    problems: tuple[DecodeProblem, ...]

    def __str__(self) -> str:
        return f"not a valid {self.what}: " + "; ".join(map(str, self.problems))


@define
class MalformedKey(VerifyError):
    """A public key is invalid: correct the trust file, or the record of the host."""

    public_key: str

    def __str__(self) -> str:
        return f"expected a public key of 64 hexadecimal digits, found {self.public_key!r}"


@define
class MalformedSignature(VerifyError):
    """A signature has the wrong length or encoding, for any key."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected a signature of {self.expected}, found {self.found}"


@define
class UnsupportedAlgorithm(VerifyError):
    """No key made the signature, and one of them is of an algorithm that this release does not support."""

    algorithm: str
    public_key: str

    def __str__(self) -> str:
        return (
            f"key {self.public_key} is for {self.algorithm!r}; expected 'ed25519': "
            "update this side, or trust a key that it can check"
        )


@define
class BadSignature(VerifyError):
    """None of the trusted keys made the signature: another key did, or the content was changed."""

    tried: tuple[str, ...]

    def __str__(self) -> str:
        return f"signed by none of the trusted keys {', '.join(self.tried)}, or changed since"


@define
class UnsupportedSchema(VerifyError):
    """The artefact has a schema version that this release does not support."""

    expected: int
    found: int

    def __str__(self) -> str:
        return f"expected schema version {self.expected}, found {self.found}"


@define
class NotSigned(VerifyError):
    """The signature or the time of signing is missing."""

    missing: str

    def __str__(self) -> str:
        return f"expected it to be signed, found no {self.missing}"


@define
class RejectedAsCompromised(VerifyError):
    """Signed before `reject_before` of the key slot."""

    signed_at: datetime
    reject_before: datetime

    def __str__(self) -> str:
        return (
            f"signed {format_time(self.signed_at)} is older than "
            f"reject_before {format_time(self.reject_before)}"
        )


@define
class Stale(VerifyError):
    """Signed too long ago; CI signs again before the window closes."""

    signed_at: datetime
    now: datetime
    freshness_window_minutes: int

    @property
    def age(self) -> timedelta:
        return self.now - self.signed_at

    def __str__(self) -> str:
        return (
            f"signed {format_time(self.signed_at)} is {self.age} old at {format_time(self.now)}; expected "
            f"at most {self.freshness_window_minutes} minutes and {CLOCK_SKEW.seconds} s"
        )


@define
class FutureDated(VerifyError):
    """Signed in the future, beyond the permitted clock skew."""

    signed_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"signed {format_time(self.signed_at)} is {self.signed_at - self.now} ahead of "
            f"{format_time(self.now)}; expected at most {CLOCK_SKEW.seconds} s: check both clocks"
        )


@define
class WrongRolloutId(VerifyError):
    """A valid manifest of another rollout than the expected one."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected the manifest of {self.expected}, found that of {self.found}"


@define
class WrongAnchor(VerifyError):
    """The manifest of `rollout_id` was made from another fleet than the given one."""

    rollout_id: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"the manifest of {self.rollout_id} is anchored to fleet {self.found}; "
            f"expected {self.expected}"
        )


@define
class NoOrgRootKey(VerifyError):
    """The trust file has no org root key to verify a token with."""

    def __str__(self) -> str:
        return (
            "the trust file has no orgRootKey, so no token can be checked and no host can enroll: "
            "add the key that signs tokens"
        )


@define
class TokenNotYetIssued(VerifyError):
    """A token was issued in the future, beyond the permitted clock skew."""

    hostname: str
    issued_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"the token of {self.hostname} was issued {format_time(self.issued_at)}, "
            f"{self.issued_at - self.now} ahead of {format_time(self.now)}; expected at most "
            f"{CLOCK_SKEW.seconds} s: check both clocks"
        )


@define
class TokenExpired(VerifyError):
    """A token has expired."""

    hostname: str
    expires_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"the token of {self.hostname} expired {format_time(self.expires_at)}, it is "
            f"{format_time(self.now)}: issue a new one"
        )
