"""Validates a trust file, and applies the three changes to its keys. Pure.

    rotate       new ─▶ current ─▶ previous        both are trusted until everything is signed with the new one
    retire       previous is removed               its signatures are no longer trusted
    compromised  new ─▶ current, previous removed  and signatures from before a given time are refused

Source: docs/spec/trust.md, Trust file.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from attrs import define, evolve

from nixfleet_proto.codec import format_time
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import MalformedKey, UnsupportedAlgorithm, require_usable
from nixfleet_proto.trust import KeySlot, Operator, TrustedKey, TrustRoot
from nixfleet_runtime.documents.problems import Problem, at, listed


class Slot(StrEnum):
    """Which keys: those that sign releases, or those that sign enrollment tokens."""

    CI = "ci"
    ORG = "org"


class KeyChangeError(NixfleetError):
    """A change to the keys of a trust file is refused; the subclass says why."""


@define
class NoSuchSlot(KeyChangeError):
    """The trust file has no keys in this slot."""

    slot: Slot

    def __str__(self) -> str:
        return f"expected keys of {self.slot}, found none in the trust file"


@define
class RotationUnderWay(KeyChangeError):
    """There still is a previous key, whose signatures another rotation would invalidate."""

    previous: str

    def __str__(self) -> str:
        return (
            f"expected no previous key, found {self.previous}: the last rotation is not complete; "
            "sign everything again with the current key, then retire the previous one"
        )


@define
class NothingToRetire(KeyChangeError):
    """There is no previous key."""

    slot: Slot

    def __str__(self) -> str:
        return f"expected a previous key of {self.slot}, found none"


@define
class SameKey(KeyChangeError):
    """The new key is already in the trust file."""

    public_key: str

    def __str__(self) -> str:
        return f"expected a new key, found {self.public_key}, which is already in the trust file"


@define
class SwitchedLater(KeyChangeError):
    """The trust file already refuses signatures from before a later time; it is never set back."""

    reject_before: datetime
    wanted: datetime

    def __str__(self) -> str:
        return (
            f"signatures from before {format_time(self.reject_before)} are already refused: "
            f"expected that time or later, found {format_time(self.wanted)}"
        )


@define
class OperatorKnown(KeyChangeError):
    """The trust file already has an operator of this name."""

    name: str

    def __str__(self) -> str:
        return (
            f"expected a new name, found {self.name}, which is an operator already: remove it first"
        )


@define
class OperatorUnknown(KeyChangeError):
    """The trust file has no operator of this name."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"expected an operator of the trust file ({listed(self.known) or 'none'}), found {self.name}"


def with_operator(trust: TrustRoot, operator: Operator) -> TrustRoot:
    """Return the trust root with `operator` too. Raises: OperatorKnown; InvalidValue, for another operator's key."""
    if operator.name in (each.name for each in trust.operators):
        raise OperatorKnown(operator.name)
    return evolve(trust, operators=(*trust.operators, operator))


def without_operator(trust: TrustRoot, name: str) -> TrustRoot:
    """Return the trust root without the operator `name`. Raises: OperatorUnknown."""
    left = tuple(each for each in trust.operators if each.name != name)
    if len(left) == len(trust.operators):
        raise OperatorUnknown(name, tuple(each.name for each in trust.operators))
    return evolve(trust, operators=left)


def rotated(trust: TrustRoot, slot: Slot, new: TrustedKey) -> TrustRoot:
    """Return the trust root with `new` as the current key and the current one as the previous.

    Raises: NoSuchSlot, RotationUnderWay, SameKey, MalformedKey, UnsupportedAlgorithm.
    """
    keys = _keys_of(trust, slot)
    _require_new(keys, new)
    if keys.previous is not None:
        raise RotationUnderWay(keys.previous.public_key)
    return _with_keys(trust, slot, evolve(keys, current=new, previous=keys.current))


def retired(trust: TrustRoot, slot: Slot) -> TrustRoot:
    """Return the trust root without the previous key. Raises: NoSuchSlot, NothingToRetire."""
    keys = _keys_of(trust, slot)
    if keys.previous is None:
        raise NothingToRetire(slot)
    return _with_keys(trust, slot, evolve(keys, previous=None))


def compromised(
    trust: TrustRoot, slot: Slot, new: TrustedKey, reject_before: datetime
) -> TrustRoot:
    """Return the trust root that trusts only `new`, and refuses signatures from before `reject_before`.

    The time alone is not enough, because whoever has the old key can sign with any time.
    Raises: NoSuchSlot, SameKey, SwitchedLater, MalformedKey, UnsupportedAlgorithm.
    """
    keys = _keys_of(trust, slot)
    _require_new(keys, new)
    if keys.reject_before is not None and reject_before < keys.reject_before:
        raise SwitchedLater(keys.reject_before, reject_before)
    return _with_keys(trust, slot, KeySlot(new, None, reject_before))


def problems_of(trust: TrustRoot, now: datetime) -> tuple[Problem, ...]:
    """Return all problems of a trust file, sorted by path. now: to compare `rejectBefore` with."""
    return tuple(sorted(_problems(trust, now)))


def _problems(trust: TrustRoot, now: datetime) -> Iterator[Problem]:
    places = defaultdict[str, list[str]](list)
    for place, key in _placed_keys(trust):
        places[key.public_key.lower()].append(place)
        yield from _unusable(place, key)
    for public_key, where in places.items():
        if len(where) > 1:
            # A key in two roles would give its holder both permissions.
            yield Problem(
                where[1],
                "the same key in two places",
                "a different key for each",
                f"{public_key}, as in {where[0]}",
            )
    for place, keys in _placed_slots(trust):
        if keys.reject_before is not None and keys.reject_before > now:
            found = f"{format_time(keys.reject_before)}, which is after now, {format_time(now)}"
            message = "all signatures are refused until then"
            yield Problem(f"{place}.rejectBefore", message, "a time in the past", found)


def _unusable(place: str, key: TrustedKey) -> Iterator[Problem]:
    try:
        require_usable(key)
    except UnsupportedAlgorithm as error:
        yield Problem(f"{place}.algorithm", "unknown algorithm", "ed25519", error.algorithm)
    except MalformedKey as error:
        found = f"{error.public_key[:80]!r}, {len(error.public_key)} characters"
        expected = "64 hexadecimal digits that encode a point of the curve"
        yield Problem(f"{place}.publicKey", "not a key", expected, found)


def _placed_slots(trust: TrustRoot) -> Iterator[tuple[str, KeySlot]]:
    yield "ciReleaseKey", trust.ci_release_key
    if trust.org_root_key is not None:
        yield "orgRootKey", trust.org_root_key


def _placed_keys(trust: TrustRoot) -> Iterator[tuple[str, TrustedKey]]:
    for place, keys in _placed_slots(trust):
        yield f"{place}.current", keys.current
        if keys.previous is not None:
            yield f"{place}.previous", keys.previous
    for index, operator in enumerate(trust.operators):
        yield f"{at('operators', index)}.publicKey", operator.public_key


def _keys_of(trust: TrustRoot, slot: Slot) -> KeySlot:
    keys = trust.ci_release_key if slot is Slot.CI else trust.org_root_key
    if keys is None:
        raise NoSuchSlot(slot)
    return keys


def _with_keys(trust: TrustRoot, slot: Slot, keys: KeySlot) -> TrustRoot:
    if slot is Slot.CI:
        return evolve(trust, ci_release_key=keys)
    return evolve(trust, org_root_key=keys)


def _require_new(keys: KeySlot, new: TrustedKey) -> None:
    require_usable(new)
    if new in keys.keys:
        raise SameKey(new.public_key)
