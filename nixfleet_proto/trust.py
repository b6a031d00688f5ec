"""Who is trusted, and the proof that something was checked against it. Frozen data, no cryptography.

`Verified` is made by `nixfleet_proto.signing` alone: the pure packages take it as the proof that a value
came from a fresh artefact with a valid signature, without being able to check (or fake) one themselves.
Source: design 6.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final, Generic, TypeVar

from attrs import field, frozen

T_co = TypeVar("T_co", covariant=True)


@frozen
class TrustedKey:
    """A public key. The algorithm belongs to the key, never to the artefact that claims it."""

    public_key: str  # 64 hexadecimal digits
    algorithm: str = "ed25519"


@frozen
class KeySlot:
    """A key with room to rotate: `previous` stays good until it is taken out.

    reject_before: the compromise switch; whatever was signed earlier is refused, by either key.
    """

    current: TrustedKey
    previous: TrustedKey | None = None
    reject_before: datetime | None = None

    @property
    def keys(self) -> tuple[TrustedKey, ...]:
        """The keys to try, in order."""
        return (self.current,) if self.previous is None else (self.current, self.previous)


class OperatorRole(StrEnum):
    """`READ` sees everything; `OPERATE` may also pause, resume and clear."""

    READ = "read"
    OPERATE = "operate"


@frozen
class Operator:
    """A person whose signed requests the control plane obeys."""

    name: str
    public_key: TrustedKey
    role: OperatorRole = OperatorRole.READ


@frozen
class TrustRoot:
    """The content of a trust file: everything a side believes without further proof."""

    ci_release_key: KeySlot
    org_root_key: KeySlot | None = None
    operators: tuple[Operator, ...] = ()


class _Seal:
    """Held by the verifier. Not exported: without it `Verified` cannot be constructed."""


_SEAL: Final = _Seal()


def _require_seal(_instance: object, _attribute: object, value: _Seal) -> None:
    if value is not _SEAL:
        raise TypeError(
            "Verified values are made by nixfleet_proto.signing.verify and nothing else"
        )


@frozen
class Verified(Generic[T_co]):
    """A value whose signature, schema version and freshness were checked, and where it came from.

    artefact: the received bytes. signature: the 64 bytes that were good for them. signed_by: the
    public key that made it, in hex.
    """

    value: T_co
    artefact: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signed_by: str
    signed_at: datetime
    _seal: _Seal = field(repr=False, eq=False, validator=_require_seal)
