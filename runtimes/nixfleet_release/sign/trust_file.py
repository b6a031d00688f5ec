"""A trust file's life: what is wrong with one, and the three things that are done to its keys. Pure.

    rotate       new ─▶ current ─▶ previous          both are believed, until all is signed by the new one
    retire       previous is taken out               what it signed is not believed any more
    compromised  new ─▶ current; nothing else stays  and nothing that was signed before a time is believed

Source: docs/spec/trust.md, Trust file.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from attrs import define, evolve

from nixfleet_proto.codec import format_time
from nixfleet_proto.signing import MalformedKey, UnsupportedAlgorithm, require_usable
from nixfleet_proto.trust import KeySlot, TrustedKey, TrustRoot
from nixfleet_runtime.documents.problems import Problem, at


class Slot(StrEnum):
    """Whose keys: those that sign releases, or those that let hosts in."""

    CI = "ci"
    ORG = "org"


class KeyChangeError(Exception):
    """What was to be done to the keys of a trust file makes no sense; the subclass says why."""


@define
class NoSuchSlot(KeyChangeError):
    """The trust file has no keys there."""

    slot: Slot

    def __str__(self) -> str:
        return f"expected keys of {self.slot}, found none in the trust file"


@define
class RotationUnderWay(KeyChangeError):
    """There is a previous key still: a third one would make what it signed worthless."""

    previous: str

    def __str__(self) -> str:
        return (
            f"the rotation before is not over: {self.previous} is still believed; "
            "sign everything anew with the current key, then retire it"
        )


@define
class NothingToRetire(KeyChangeError):
    """There is no previous key."""

    slot: Slot

    def __str__(self) -> str:
        return f"expected a previous key of {self.slot}, found none"


@define
class SameKey(KeyChangeError):
    """The key that should come is one that is there, so nothing would change."""

    public_key: str

    def __str__(self) -> str:
        return f"{self.public_key} is in the trust file already: expected a new key"


@define
class SwitchedLater(KeyChangeError):
    """What is signed earlier is refused already, and from a later time on: the switch is never turned back."""

    reject_before: datetime
    wanted: datetime

    def __str__(self) -> str:
        return (
            f"what was signed before {format_time(self.reject_before)} is refused already; "
            f"expected that time or a later one, found {format_time(self.wanted)}"
        )


def rotated(trust: TrustRoot, slot: Slot, new: TrustedKey) -> TrustRoot:
    """Return the trust root that believes `new` and, still, the key before it.

    Raises: NoSuchSlot, RotationUnderWay, SameKey, MalformedKey, UnsupportedAlgorithm.
    """
    keys = _keys_of(trust, slot)
    _require_new(keys, new)
    if keys.previous is not None:
        raise RotationUnderWay(keys.previous.public_key)
    return _with_keys(trust, slot, evolve(keys, current=new, previous=keys.current))


def retired(trust: TrustRoot, slot: Slot) -> TrustRoot:
    """Return the trust root that believes the current key alone. Raises: NoSuchSlot, NothingToRetire."""
    keys = _keys_of(trust, slot)
    if keys.previous is None:
        raise NothingToRetire(slot)
    return _with_keys(trust, slot, evolve(keys, previous=None))


def compromised(
    trust: TrustRoot, slot: Slot, new: TrustedKey, reject_before: datetime
) -> TrustRoot:
    """Return the trust root that believes `new` alone, and nothing that was signed before `reject_before`.

    The time alone would not do: who has a key can sign with any time.
    Raises: NoSuchSlot, SameKey, SwitchedLater, MalformedKey, UnsupportedAlgorithm.
    """
    keys = _keys_of(trust, slot)
    _require_new(keys, new)
    if keys.reject_before is not None and reject_before < keys.reject_before:
        raise SwitchedLater(keys.reject_before, reject_before)
    return _with_keys(trust, slot, KeySlot(new, None, reject_before))


def problems_of(trust: TrustRoot, now: datetime) -> tuple[Problem, ...]:
    """Return everything that is wrong with a trust file, sorted by place. `now`: for its compromise switches."""
    return tuple(sorted(_problems(trust, now)))


def _problems(trust: TrustRoot, now: datetime) -> Iterator[Problem]:
    places = defaultdict[str, list[str]](list)
    for place, key in _placed_keys(trust):
        places[key.public_key.lower()].append(place)
        yield from _unusable(place, key)
    for public_key, where in places.items():
        if len(where) > 1:
            # One key in two roles: whoever may do the one thing could do the other.
            yield Problem(
                where[1],
                "one key in two places",
                "a key of its own",
                f"{public_key}, as in {where[0]}",
            )
    names = [operator.name for operator in trust.operators]
    for index, name in enumerate(names):
        if name in names[:index]:
            place = at(at("operators", index), "name")
            yield Problem(place, "two operators of one name", "a name of its own", name)
    for place, keys in _placed_slots(trust):
        if keys.reject_before is not None and keys.reject_before > now:
            found = f"{format_time(keys.reject_before)}, and it is {format_time(now)}"
            yield Problem(
                f"{place}.rejectBefore", "nothing is believed yet", "a time that has come", found
            )


def _unusable(place: str, key: TrustedKey) -> Iterator[Problem]:
    try:
        require_usable(key)
    except UnsupportedAlgorithm as error:
        yield Problem(f"{place}.algorithm", "unknown algorithm", "ed25519", error.algorithm)
    except MalformedKey as error:
        found = f"{error.public_key[:80]!r}, {len(error.public_key)} characters"
        expected = "64 hexadecimal digits that are a point of the curve"
        yield Problem(f"{place}.publicKey", "no key", expected, found)


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
