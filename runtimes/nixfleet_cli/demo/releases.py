"""A release of the demonstration: what CI does, from a version of the shop to a directory of signed files."""

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from nixfleet_cli.demo.closures import ShopVersion
from nixfleet_cli.demo.declaration import CHANNEL
from nixfleet_cli.demo.world import World, build_closures
from nixfleet_proto.ids import RolloutId
from nixfleet_release import release


@frozen
class Published:
    """A release: which version it brings, as which rollout, to each host as which closure, and its signed files."""

    version: ShopVersion
    rollout_id: RolloutId
    closures: Mapping[str, str]
    directory: Path


def release_version(
    world: World, version: ShopVersion, others: Mapping[str, ShopVersion] | None = None
) -> Published:
    """Build `version` for all hosts, and sign what gives it to them. others: what single hosts get instead."""
    channel_ref = f"release-{version.number}"
    directory = world.directory / "releases" / channel_ref
    directory.parent.mkdir(exist_ok=True)
    closures = build_closures(world.checked, world.hosts, version, world.directory, others)
    release(
        world.checked,
        closures,
        directory,
        channel_ref=channel_ref,
        signed_at=world.clock.now(),
        key=world.release_key,
    )
    return Published(version, RolloutId.of(CHANNEL, channel_ref), closures, directory)
