"""What is in force: the manifest that each channel points at, and when it was signed. Reads the state only."""

from datetime import UTC, datetime, timedelta

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import InForce
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.freshness import freshness_window
from nixfleet_proto.signing import CLOCK_SKEW


def in_force(state: State) -> tuple[InForce, ...]:
    """Return what each channel of the newest fleet points at, by channel. O(channels).

    A channel that the fleet does not have any more has nothing in force: nothing is signed for it again.
    """
    newest = next(iter(fleets_in_force(state)), None)
    if newest is None:
        return ()
    found = (_offer_of(state, channel) for channel in sorted(newest.channels))
    return tuple(it for it in found if it is not None)


def stale_at(release: InForce, limit_minutes: int | None) -> datetime:
    """Return until when hosts accept a release. limit_minutes: the freshness limit of the control plane, if any."""
    window = freshness_window(release.window_minutes, limit_minutes)
    try:
        return release.signed_at + timedelta(minutes=window) + CLOCK_SKEW
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def fleets_in_force(state: State) -> tuple[FleetResolved, ...]:
    """Return the fleets in which manifests in force are anchored, the newest first."""
    signed = [
        (loaded.fleet.meta.signed_at, loaded.fleet)
        for loaded in state.fleets.values()
        if loaded.fleet.meta.signed_at is not None
    ]
    return tuple(fleet for _, fleet in sorted(signed, key=_signed_at, reverse=True))


def release_of(state: State, hostname: str) -> InForce | None:
    """Return what the channel of a host points at; `None` if no fleet in force names the host."""
    for loaded in state.fleets.values():
        host = loaded.fleet.hosts.get(hostname)
        offer = None if host is None else _offer_of(state, host.channel)
        if offer is not None:
            return offer
    return None


def _signed_at(signed: tuple[datetime, FleetResolved]) -> datetime:
    return signed[0]


def _offer_of(state: State, channel: str) -> InForce | None:
    terms = state.view.offers.get(channel)
    loaded = None if terms is None else state.manifests.get(terms.rollout_id)
    if loaded is None or loaded.manifest.meta.signed_at is None:
        return None
    manifest, signed_at = loaded.manifest, loaded.manifest.meta.signed_at
    return InForce(channel, manifest.rollout_id, signed_at, manifest.freshness_window_minutes)
