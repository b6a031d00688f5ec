"""Laws of releases and trust: no byte, no file and no key can be exchanged; the trust file says what is believed.

The release has every kind of artefact, and each change of it is judged as its receivers judge.
"""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeAlias

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_proto.codec import (
    encode_bootstrap_nonces,
    encode_fleet,
    encode_manifest,
    encode_revocations,
)
from nixfleet_proto.enrollment import BootstrapNonce, BootstrapNonces, Revocation, Revocations
from nixfleet_proto.fleet import (
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import CLOCK_SKEW, SigningKey, artefact_hash, sign_artefact
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.build.project import project
from nixfleet_release.sign.trust_file import KeyChangeError, Slot, compromised, retired, rotated
from nixfleet_release.sign.verify import verify_release
from nixfleet_runtime.releases.directory import Release, artefacts_of
from nixfleet_runtime.releases.layout import NONCES_FILE, rollout_of

# Keys from fixed seeds: what fails once fails again.
KEYS = tuple(SigningKey(bytes([number]) * 32) for number in range(1, 6))
CI = KEYS[0]
TRUST = TrustRoot(KeySlot(CI.public_key))
NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=180)
Change: TypeAlias = tuple[str, int, int]


@cache
def made(key: SigningKey = CI, signed_at: datetime = NOW, ref: str = "r1") -> Release:
    meta = Meta(signed_at)
    fleet = FleetResolved(
        hosts=FrozenMap({"web-01": FleetHost("stable", closure_hash="aaa-web")}),
        channels=FrozenMap({"stable": FleetChannel("slow")}),
        rollout_policies=FrozenMap({"slow": RolloutPolicy()}),
        waves=FrozenMap({"stable": (Wave(("web-01",)),)}),
        meta=meta,
    )
    body = encode_fleet(fleet)
    revoked = Revocations((Revocation("web-02", NOW),), meta)
    nonces = BootstrapNonces((BootstrapNonce("n-1", "web-02", NOW),), meta)
    return Release(
        sign_artefact(body, key),
        FrozenMap(
            {
                it.rollout_id: sign_artefact(encode_manifest(it), key)
                for it in project(fleet, ref, artefact_hash(body))
            }
        ),
        sign_artefact(encode_revocations(revoked), key),
        sign_artefact(encode_bootstrap_nonces(nonces), key),
    )


def with_artefact(release: Release, name: str, signed: SignedArtefact) -> Release:
    rollout_id = rollout_of(name)
    if rollout_id is not None:
        return evolve(release, manifests=release.manifests.with_item(rollout_id, signed))
    match name:
        case "fleet.resolved.json":
            return evolve(release, fleet=signed)
        case "revocations.json":
            return evolve(release, revocations=signed)
        case _:
            assert name == NONCES_FILE
            return evolve(release, nonces=signed)


def refused(release: Release, trust: TrustRoot = TRUST, now: datetime = NOW) -> set[str]:
    verdict = verify_release(release, trust, now, freshness_window_minutes=180)
    return {it.name for it in verdict.refused}


RELEASE = made()
NAMES = sorted(artefacts_of(RELEASE))


def test_an_untouched_release_is_believed() -> None:
    """All of it: the laws below are not about something that is refused anyway."""
    assert refused(RELEASE) == set()


@settings(max_examples=400)
@given(st.sampled_from(NAMES), st.booleans(), st.data())
def test_every_changed_byte_is_refused_in_its_file(
    name: str, in_signature: bool, data: st.DataObject
) -> None:
    """In any artefact or its signature, any byte, to anything else."""
    signed = artefacts_of(RELEASE)[name]
    content = bytearray(signed.signature if in_signature else signed.body)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    changed = (
        SignedArtefact(signed.body, bytes(content))
        if in_signature
        else SignedArtefact(bytes(content), signed.signature)
    )

    assert name in refused(with_artefact(RELEASE, name, changed))


@given(st.permutations(NAMES))
def test_files_that_were_exchanged_are_refused(order: list[str]) -> None:
    """Each file under another's name, signature and all, is not what that name says."""
    artefacts = artefacts_of(RELEASE)
    release = RELEASE
    for name, other in zip(NAMES, order, strict=True):
        release = with_artefact(release, name, artefacts[other])

    moved = {name for name, other in zip(NAMES, order, strict=True) if name != other}
    assert moved <= refused(release)
    assert bool(moved) == bool(refused(release))


@given(st.sampled_from(NAMES), st.sampled_from(KEYS[1:]))
def test_what_another_key_signed_is_refused(name: str, key: SigningKey) -> None:
    """One artefact of the same content by a key that is not trusted."""
    swapped = with_artefact(RELEASE, name, artefacts_of(made(key))[name])

    assert refused(swapped) == {name}


@given(st.timedeltas(-2 * WINDOW, 2 * WINDOW))
def test_a_replay_is_believed_within_its_window_alone(age: timedelta) -> None:
    """Not staler than the window and a minute, not more than a minute ahead: to the microsecond."""
    is_fresh = -CLOCK_SKEW <= age <= WINDOW + CLOCK_SKEW

    assert refused(made(signed_at=NOW - age)) == (set() if is_fresh else set(NAMES))


def test_parts_of_two_releases_do_not_make_one() -> None:
    """A manifest of an earlier fleet beside a later fleet is refused, though both are signed and fresh."""
    later = made(signed_at=NOW + timedelta(seconds=1))

    assert refused(evolve(RELEASE, fleet=later.fleet)) == {"rollouts/stable@r1.json"}


changes = st.lists(
    st.tuples(
        st.sampled_from(["rotate", "retire", "compromised"]),
        st.integers(0, len(KEYS) - 1),
        st.integers(-3, 3),
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(changes)
def test_after_any_life_of_a_trust_file_just_its_keys_are_believed(steps: list[Change]) -> None:
    """Whatever was rotated, retired or compromised before: two keys at most, and nothing from before the switch."""
    trust = TRUST
    believed, since = [CI], None
    for step, number, minutes in steps:
        key, at = KEYS[number], NOW + timedelta(minutes=minutes)
        try:
            match step:
                case "rotate":
                    trust = rotated(trust, Slot.CI, key.public_key)
                    believed = [key, believed[0]]
                case "retire":
                    trust = retired(trust, Slot.CI)
                    believed = believed[:1]
                case _:
                    trust = compromised(trust, Slot.CI, key.public_key, at)
                    assert since is None or at >= since, "the switch is never turned back"
                    believed, since = [key], at
        except KeyChangeError:
            continue

    for key in KEYS:
        for minutes in (-3, 0, 1):
            signed_at = NOW + timedelta(minutes=minutes)
            is_good = key in believed and (since is None or signed_at >= since)
            assert (refused(made(key, signed_at), trust) == set()) == is_good
