"""Errors of sealing and opening. None contains a secret or a private key."""

from attrs import define

from nixfleet_proto.errors import NixfleetError


class SealingError(NixfleetError):
    """A secret cannot be sealed or opened; the subclass says why."""


@define
class NoRecipients(SealingError):
    """No recipients were given, so the secret could never be opened."""

    def __str__(self) -> str:
        return "expected at least one recipient, found none: the secret could never be opened"


@define
class SecretTooLong(SealingError):
    """The secret is too long. Encrypt larger data with a key, and seal the key."""

    length_max: int

    def __str__(self) -> str:
        return f"expected a secret of at most {self.length_max} bytes, found more"


@define
class NotARecipient(SealingError):
    """The secret is not sealed to this key."""

    public_key: str
    recipients: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"expected the key of a recipient, one of {', '.join(self.recipients)}; found {self.public_key}: "
            "ask a recipient to reseal the secret"
        )


@define
class TamperedSecret(SealingError):
    """The sealed secret was changed or is invalid. where: the part that fails verification."""

    where: str

    def __str__(self) -> str:
        return f"changed since it was sealed: {self.where} fails verification"


@define
class UnsupportedVersion(SealingError):
    """The sealed secret has a version that this release does not support."""

    expected: int
    found: int

    def __str__(self) -> str:
        return f"expected version {self.expected} of a sealed secret, found {self.found}"


@define
class NotASealedSecret(SealingError):
    """The bytes are not a sealed secret. The message does not show them."""

    why: str

    def __str__(self) -> str:
        return f"not a sealed secret: {self.why}"
