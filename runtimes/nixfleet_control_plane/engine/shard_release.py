"""A release as one shard of several sees it: what would join shards, and which channels it has to wait for. Pure.

Source: docs/spec/shards.md, A release.
"""

from collections.abc import Mapping
from typing import Self

from attrs import frozen

from nixfleet_control_plane.messages.inputs import ManifestsUpdated
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import artefact_hash
from nixfleet_state_machine.planner.terms import predecessors_of
from nixfleet_state_machine.shards.bonds import ShardsJoined, bonds_of, joined
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from nixfleet_state_machine.shards.shard_map import ShardPlace


@frozen
class Release:
    """The release that an update is of.

    hash: of its fleet. joined: the budgets that would join shards. channels: those of which it has a manifest.
    """

    place: ShardPlace
    fleet: FleetResolved
    hash: str
    joined: tuple[ShardsJoined, ...] = ()
    channels: frozenset[str] = frozenset()

    @classmethod
    def of(cls, place: ShardPlace, update: ManifestsUpdated) -> Self:
        """Return the release of `update`. A control plane with one shard looks at nothing: nothing can join."""
        if not place.map.names:
            return cls(place, update.fleet.value, "")
        fleet = update.fleet.value
        found = tuple(joined(place.map, bonds_of(fleet)))
        return cls(
            place, fleet, artefact_hash(update.fleet.artefact), found, update.released_channels
        )

    def joins(self, channel: str) -> str | None:
        """Return which budget would join the shard of `channel` to another; `None`: none would."""
        return next((str(each) for each in self.joined if channel in each.channels), None)

    def waits_for(self, seen: Mapping[str, ChannelSeen], manifest: RolloutManifest) -> str | None:
        """Return what the channel of `manifest` waits for before it takes the release; `None`: for nothing.

        A channel of another shard that it waits for must have decided the same release, or this one would see the
        rollout before, which is done, and begin at once.
        """
        if not self.place.map.names:
            return None
        for channel in predecessors_of(manifest.channel, self.fleet):
            if self.place.has(channel):
                continue
            known = seen.get(channel)
            is_released = channel in self.channels
            if known is None or (is_released and not known.has_decided(self.hash)):
                name = self.place.map.shard_of(channel)
                found = "nothing yet" if known is None else _found(known)
                return (
                    f"channel {manifest.channel} waits until channel {channel} of shard {name} has this release in "
                    f"force: seen is {found}"
                )
        return None


def _found(known: ChannelSeen) -> str:
    if known.offered_rollout_id is None:
        return f"nothing in force there, as of {known.as_of}"
    return f"{known.offered_rollout_id} of another release, as of {known.as_of}"
