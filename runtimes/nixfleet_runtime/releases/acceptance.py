"""Whether a verified release may be put in force, after what was in force before it. Pure.

The control plane decides by these rules, and the declaring side applies the same ones before it writes a release: what
would be refused is refused while somebody is looking.
Source: docs/spec/trust.md, What is put in force.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.codec import format_time
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, require_anchor
from nixfleet_proto.trust import Verified
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.releases.amendment import SignedTerms, amendment_objection
from nixfleet_state_machine.planner.progress import empty_waves
from nixfleet_state_machine.planner.terms import RolloutTerms

NEW_REF: Final = "expected a new channel ref (older content is released again under a new ref, as any content is)"


@frozen
class Precedent:
    """What is known of earlier releases that a manifest may conflict with.

    ended: how its rollout ended, if it did, as `was superseded`. in_force: what is in force for the same rollout.
    signed_at: when the manifest in force for its channel was signed.
    """

    ended: str | None = None
    in_force: SignedTerms | None = None
    signed_at: datetime | None = None


def manifest_objection(
    manifest: Verified[RolloutManifest],
    fleet: Verified[FleetResolved],
    precedent_of: Callable[[RolloutTerms], Precedent],
) -> str | None:
    """Return why `manifest` is not put in force with `fleet`; `None` if it is.

    precedent_of: returns what is known for the terms of a manifest; asked only if the release alone is in order.
    """
    try:
        require_anchor(manifest, fleet)
    except VerifyError as error:
        return str(error)
    if not manifest.value.host_set:
        return "expected at least one host, found none"
    try:
        terms = RolloutTerms.of(manifest, fleet)
    except InvalidValue as error:
        return str(error)
    empty = empty_waves(terms)
    if empty:
        found = f"none in wave {', '.join(map(str, empty))}"
        return f"expected hosts in every wave, found {found}{_unbuilt(terms, fleet.value)}"
    return _conflict(manifest, terms, precedent_of(terms))


def list_objection(offered_at: datetime, in_force_at: datetime | None) -> str | None:
    """Return why a list signed at `offered_at` does not replace one signed at `in_force_at`; `None` if it does."""
    if in_force_at is None or offered_at >= in_force_at:
        return None
    return (
        f"expected a list signed at {format_time(in_force_at)}, as the one in force, or later; "
        f"found {format_time(offered_at)}"
    )


def _unbuilt(terms: RolloutTerms, fleet: FleetResolved) -> str:
    """Return a note about the hosts that are missing because they have no closure."""
    waves = fleet.waves.get(terms.channel, ())
    named = {host for index in empty_waves(terms) for host in waves[index].hosts}
    unbuilt = sorted(
        host for host in named if host in fleet.hosts and fleet.hosts[host].closure_hash is None
    )
    return f" (no closure: {listed(unbuilt)})" if unbuilt else ""


def _conflict(
    manifest: Verified[RolloutManifest], terms: RolloutTerms, precedent: Precedent
) -> str | None:
    if precedent.ended is not None:
        return f"{terms.rollout_id} {precedent.ended}: {NEW_REF}"
    if precedent.in_force is not None:
        offered = SignedTerms(manifest.value, terms)
        objection = amendment_objection(precedent.in_force, offered)
        if objection is not None:
            return objection
    if precedent.signed_at is not None and manifest.signed_at < precedent.signed_at:
        return (
            f"expected a manifest signed at {format_time(precedent.signed_at)}, as the one in force for channel "
            f"{terms.channel}, or later; found {format_time(manifest.signed_at)}"
        )
    return None
