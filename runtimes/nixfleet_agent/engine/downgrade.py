"""What a signed manifest may ask of this host, given what it obeyed before. Pure.

A control plane that was taken over can replay anything that CI signed and that is still fresh: an older release, or the
release this host rolled back from. A host therefore remembers two things for good: the newest release it obeyed, and
the closures it rolled back from. Neither needs new trust, and CI overrides both by signing a new release.
Rejected: comparing channel refs, which have no order; asking the control plane, which is the one that may lie.
Source: docs/spec/trust.md, Downgrades.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest


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


def _is_older(offered: ObeyedRelease, newest: ObeyedRelease) -> bool:
    return offered.signed_at < newest.signed_at and offered.rollout_id != newest.rollout_id
