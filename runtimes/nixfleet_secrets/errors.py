"""Why a secret is not sealed or opened. Nothing here shows a secret or a private key."""

from attrs import define


class SealingError(Exception):
    """A secret is not sealed or opened; the subclass says why."""


@define
class NoRecipients(SealingError):
    """Nobody could open what is sealed to nobody."""

    def __str__(self) -> str:
        return "expected at least one recipient, found none: nobody could open it"


@define
class SecretTooLong(SealingError):
    """More than is sealed; larger things are encrypted otherwise, and their key is sealed."""

    length_max: int

    def __str__(self) -> str:
        return f"expected a secret of at most {self.length_max} bytes, found more"


@define
class NotARecipient(SealingError):
    """The key that should open it is none of those that it was sealed to."""

    public_key: str
    recipients: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"not sealed to {self.public_key}: expected one of {', '.join(self.recipients)}; "
            "ask one of them to reseal it"
        )


@define
class TamperedSecret(SealingError):
    """It was changed since it was sealed, or was never sealed well. `where` says which part does not fit."""

    where: str

    def __str__(self) -> str:
        return f"changed since it was sealed: {self.where}"


@define
class UnsupportedVersion(SealingError):
    """A sealed secret of a version that this release does not know."""

    expected: int
    found: int

    def __str__(self) -> str:
        return f"expected version {self.expected} of a sealed secret, found {self.found}"


@define
class NotASealedSecret(SealingError):
    """Bytes that are no sealed secret; what they hold is not shown."""

    why: str

    def __str__(self) -> str:
        return f"not a sealed secret: {self.why}"
