"""Who is trusted, and the proof that something was checked against it. Frozen data, no cryptography.

`Verified` is made by `nixfleet_proto.signing` alone: the pure packages take it as the proof that a value
came from a fresh artefact with a valid signature, without being able to check (or fake) one themselves.
Source: docs/spec/trust.md, Trust file; docs/spec/trust.md, Artefacts.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Generic, TypeVar, final

from attrs import field, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.errors import ValueProblem

T_co = TypeVar("T_co", covariant=True)


@frozen
@checked
class TrustedKey:
    """A public key. The algorithm belongs to the key, never to the artefact that claims it."""

    public_key: str  # 64 hexadecimal digits
    algorithm: str = "ed25519"


@frozen
@checked
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


class OperatorRole(WordEnum):
    """`READ` sees everything; `OPERATE` may also pause, resume and clear."""

    READ = "read"
    OPERATE = "operate"


@frozen
@checked
class Operator:
    """A person whose signed requests the control plane obeys."""

    name: str
    public_key: TrustedKey
    role: OperatorRole = OperatorRole.READ


@frozen
@checked
class TrustRoot:
    """The content of a trust file: everything a side believes without further proof.

    Each operator has a name and a key of its own: two names with one key would count as two people who approve.
    """

    ci_release_key: KeySlot
    org_root_key: KeySlot | None = None
    operators: tuple[Operator, ...] = ()

    def _contradictions(self) -> Iterator[ValueProblem]:
        names, keys = dict[str, int](), dict[str, int]()
        for index, operator in enumerate(self.operators):
            first = names.setdefault(operator.name, index)
            if first != index:
                found = f"{operator.name!r}, as of operators[{first}]"
                yield ValueProblem(f"operators[{index}].name", "a name of its own", found)
            key = operator.public_key.public_key
            first = keys.setdefault(key.lower(), index)
            if first != index:
                found = f"{key}, as of operators[{first}]"
                yield ValueProblem(f"operators[{index}].public_key", "a key of its own", found)


class _Seal:
    """Proof that a call comes from the verifier."""


_SEAL: Final = _Seal()


@final
@frozen(init=False)
class Verified(Generic[T_co]):
    """A value whose signature, schema version and freshness were checked, and where it came from.

    artefact: the received bytes. artefact_hash: SHA-256 of their canonical form, in hex: what anchors
    compare. signature: the 64 bytes that were good for them. signed_by: the public key that made it, in hex.
    """

    value: T_co  # type: ignore[misc]  # mypy takes attrs's private __attrs_init__ for a method
    artefact: bytes = field(repr=False)
    artefact_hash: str
    signature: bytes = field(repr=False)
    signed_by: str
    signed_at: datetime

    # The seal is an argument and no field, so `evolve` cannot pass it on to another value.
    def __init__(
        self,
        value: T_co,
        artefact: bytes,
        artefact_hash: str,
        signature: bytes,
        signed_by: str,
        signed_at: datetime,
        seal: _Seal | None = None,
    ) -> None:
        if seal is not _SEAL:
            raise TypeError("Verified values are made by nixfleet_proto.signing and nothing else")
        set_once = object.__setattr__
        set_once(self, "value", value)
        set_once(self, "artefact", artefact)
        set_once(self, "artefact_hash", artefact_hash)
        set_once(self, "signature", signature)
        set_once(self, "signed_by", signed_by)
        set_once(self, "signed_at", signed_at)
