"""A release of the demonstration: what CI does (build, sign, save), and then a publisher (load, verify, publish)."""

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from nixfleet_cli.demo.closures import ShopVersion
from nixfleet_cli.demo.declaration import CHANNEL
from nixfleet_cli.demo.world import World, build_closures
from nixfleet_control_plane.inputs import ManifestsUpdated
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import verify_fleet, verify_manifest
from nixfleet_release import load_release, release


@frozen
class Published:
    """A release that is in force: which version it brings, as which rollout, to each host as which closure."""

    version: ShopVersion
    rollout_id: RolloutId
    closures: Mapping[str, str]


async def publish(world: World, version: ShopVersion) -> Published:
    """Release `version` to all hosts."""
    channel_ref = f"release-{version.number}"
    directory = world.directory / "releases" / channel_ref
    directory.parent.mkdir(exist_ok=True)
    closures = build_closures(world.checked, world.hosts, version, world.directory)
    release(
        world.checked,
        closures,
        directory,
        channel_ref=channel_ref,
        signed_at=world.clock.now(),
        key=world.release_key,
    )
    outcome = await world.control_plane.publish(_verified(world, directory))
    rollout_id = RolloutId.of(CHANNEL, channel_ref)
    assert outcome.taken == (rollout_id,), outcome
    return Published(version, rollout_id, closures)


def _verified(world: World, directory: Path) -> ManifestsUpdated:
    """Return what the release in `directory` says, with the proof that CI stands behind it."""
    saved, now = load_release(directory), world.clock.now()
    window = world.checked.declaration.channels[CHANNEL].freshness_window
    fleet = verify_fleet(saved.fleet, world.trust, now, freshness_window_minutes=window)
    manifests = (
        verify_manifest(
            signed,
            world.trust,
            now,
            freshness_window_minutes=window,
            expected_rollout_id=rollout_id,
        )
        for rollout_id, signed in saved.manifests.items()
    )
    return ManifestsUpdated(fleet, tuple(manifests))
