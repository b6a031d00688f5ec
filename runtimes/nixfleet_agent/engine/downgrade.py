"""What a signed manifest may ask of this host, given what it obeyed before. Pure.

A control plane that was taken over can replay anything that CI signed and that is still fresh: an older release, or the
release this host rolled back from. A host therefore remembers two things for good: the newest release it obeyed, and
the closures it rolled back from. Neither needs new trust, and CI overrides both by signing a new release. What it
signed also says how many attempts a host may make within one release.
Rejected: comparing channel refs, which have no order; asking the control plane, which is the one that may lie.
Source: docs/spec/trust.md, Downgrades.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_state_machine.host.state import HostRolloutState, HostState


@frozen
class ObeyedRelease:
    """A rollout whose dispatch this host acknowledged, and when its manifest was signed."""

    rollout_id: RolloutId
    signed_at: datetime


@frozen
class RolledBackClosure:
    """A closure this host rolled back from. release: the newest one it had obeyed by then."""

    closure: str
    release: ObeyedRelease


def release_of(manifest: RolloutManifest) -> ObeyedRelease:
    """Return what is remembered of `manifest`, which was verified: it says when it was signed."""
    signed_at = manifest.meta.signed_at
    assert signed_at is not None, "an unsigned manifest is refused by `verify_manifest`"
    return ObeyedRelease(manifest.rollout_id, signed_at)


def objection_to_release(
    manifest: RolloutManifest,
    hostname: str,
    newest: ObeyedRelease | None,
    rolled_back: Mapping[str, RolledBackClosure],
) -> str | None:
    """Return why `manifest` must not move `hostname`, `None` if it may.

    newest: the newest release this host obeyed. rolled_back: by closure. An older release is refused unless it is the
    newest one itself, signed anew or not; a closure that was rolled back from needs a release that was signed later.
    """
    offered = release_of(manifest)
    if newest is not None and _is_older(offered, newest):
        return (
            f"expected a release signed at {newest.signed_at.isoformat()} or later, "
            f"as {newest.rollout_id} was, found {offered.rollout_id} of "
            f"{offered.signed_at.isoformat()}: to go back to older content, sign a new release of it"
        )
    target = manifest.target_of(hostname)
    left = None if target is None else rolled_back.get(target)
    if left is None:
        return None
    is_signed_later = offered.signed_at > left.release.signed_at
    if offered.rollout_id != left.release.rollout_id and is_signed_later:
        return None
    return (
        f"{hostname} rolled back from {target} in {left.release.rollout_id}, signed at "
        f"{left.release.signed_at.isoformat()}; expected another release signed later, found "
        f"{offered.rollout_id} of {offered.signed_at.isoformat()}"
    )


def objection_to_retry(
    manifest: RolloutManifest,
    record: HostRolloutState,
    newest: ObeyedRelease | None,
    rolled_back: Mapping[str, RolledBackClosure],
) -> str | None:
    """Return why `manifest` must not bring the attempt after that of `record`, `None` if it may.

    A host that rolled back in this rollout goes back to its closure within the signed attempts, and no further. One
    that stayed on the closure loses nothing by another attempt. Everything else is as for a first one.
    """
    left = rolled_back.get(record.target_closure)
    is_left_here = left is not None and left.release.rollout_id == manifest.rollout_id
    elsewhere = {} if is_left_here else rolled_back
    objection = objection_to_release(manifest, record.hostname, newest, elsewhere)
    if objection is not None:
        return objection
    # A record that was taken over may be Reverted without this journal knowing of a rollback.
    has_rolled_back = is_left_here or record.state is HostState.REVERTED
    signed, attempt = manifest.rollout_policy.retry.attempts, record.attempt + 1
    if not has_rolled_back or attempt <= signed:
        return None
    return (
        f"{record.hostname} rolled back from {record.target_closure} in {record.rollout_id}: expected at most the "
        f"{signed} attempts that its policy signs, found attempt {attempt}; to try the closure again, sign a new "
        "release of it"
    )


def _is_older(offered: ObeyedRelease, newest: ObeyedRelease) -> bool:
    return offered.signed_at < newest.signed_at and offered.rollout_id != newest.rollout_id
