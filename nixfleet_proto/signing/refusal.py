"""Why something is not to be trusted: a class for each reason, its numbers as attributes.

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
    """Something is not to be trusted; the subclass says why."""


@define
class MalformedArtefact(VerifyError):
    """The bytes are not the JSON they should be, or have no canonical form."""

    what: str
    problems: tuple[DecodeProblem, ...]

    def __str__(self) -> str:
        return f"not a valid {self.what}: " + "; ".join(map(str, self.problems))


@define
class MalformedKey(VerifyError):
    """A public key that is no key: the trust file, or the host's record, has to be put right."""

    public_key: str

    def __str__(self) -> str:
        return f"expected a public key of 64 hexadecimal digits, found {self.public_key!r}"


@define
class MalformedSignature(VerifyError):
    """A signature of the wrong form, for any key."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected a signature of {self.expected}, found {self.found}"


@define
class UnsupportedAlgorithm(VerifyError):
    """No key fits, and one of them is for an algorithm that this release cannot check."""

    algorithm: str
    public_key: str

    def __str__(self) -> str:
        return (
            f"key {self.public_key} is for {self.algorithm!r}; expected 'ed25519': "
            "update this side, or trust a key that it can check"
        )


@define
class BadSignature(VerifyError):
    """None of the trusted keys made the signature: another did, or what was signed was changed since."""

    tried: tuple[str, ...]

    def __str__(self) -> str:
        return f"signed by none of the trusted keys {', '.join(self.tried)}, or changed since"


@define
class UnsupportedSchema(VerifyError):
    """The artefact is of a version that this release does not know."""

    expected: int
    found: int

    def __str__(self) -> str:
        return f"expected schema version {self.expected}, found {self.found}"


@define
class NotSigned(VerifyError):
    """There is no signature, or an artefact does not say when it was signed."""

    missing: str

    def __str__(self) -> str:
        return f"expected it to be signed, found no {self.missing}"


@define
class RejectedAsCompromised(VerifyError):
    """Signed before the time from which on the keys are trusted again."""

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
    """Signed later than it can be here, even with clocks that differ."""

    signed_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"signed {format_time(self.signed_at)} is {self.signed_at - self.now} ahead of "
            f"{format_time(self.now)}; expected at most {CLOCK_SKEW.seconds} s: check both clocks"
        )


@define
class WrongRolloutId(VerifyError):
    """A good manifest, but of another rollout than the one that was asked for."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected the manifest of {self.expected}, found that of {self.found}"


@define
class WrongAnchor(VerifyError):
    """The manifest of `rollout_id` was made from another fleet than the one at hand."""

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
    """There is nothing to check a token against."""

    def __str__(self) -> str:
        return (
            "the trust file has no orgRootKey, so no token can be checked and no host can enroll: "
            "add the key that signs tokens"
        )


@define
class TokenNotYetIssued(VerifyError):
    """A token from later than it can be here, even with clocks that differ."""

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
    """A token that was good once."""

    hostname: str
    expires_at: datetime
    now: datetime

    def __str__(self) -> str:
        return (
            f"the token of {self.hostname} expired {format_time(self.expires_at)}, it is "
            f"{format_time(self.now)}: issue a new one"
        )
