"""What shards tell each other: what this log says of a channel, and what it takes from another.

Source: docs/spec/shards.md, Edges between shards; docs/spec/shards.md, Identities.
"""

from datetime import datetime

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import follow
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import SeeChannel, SeeEnrollment
from nixfleet_control_plane.messages.log_entry import EnrollmentSeen, Followed
from nixfleet_state_machine.planner.gates import channel_said
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import ShardPlace


def word_on(state: State, channel: str, as_of: AsOf) -> ChannelSeen:
    """Return what this log says of one of its channels. as_of: its last row, which must be durable. O(rollouts)."""
    rollout_id, is_done = channel_said(state.view, channel)
    loaded = None if rollout_id is None else state.manifests.get(rollout_id)
    release = None if loaded is None else loaded.manifest.fleet_resolved_hash
    return ChannelSeen(channel, rollout_id, release, is_done, as_of)


def see_channel(
    state: State, commit: CommitBuilder, place: ShardPlace, input: SeeChannel, now: datetime
) -> None:
    """Take what another shard says of one of its channels, unless it is stale, or nothing new.

    A word on a channel of this log is no word: it was read before the channel was moved here.
    """
    seen = input.seen
    if place.has(seen.channel) or place.map.shard_of(seen.channel) != seen.as_of.shard:
        return
    if seen.is_stale_after(state.seen_through.get(seen.channel)):
        return
    known = state.view.seen.get(seen.channel)
    if known is None or not seen.says_what(known):
        follow(state, commit, Followed(seen), now)
    else:
        state.seen_through.set(seen.channel, seen.as_of)


def see_enrollment(
    state: State, commit: CommitBuilder, input: SeeEnrollment, now: datetime
) -> None:
    """Take an enrollment at the shard with the identities, unless a later one of the host is known."""
    host = input.host
    known = state.identities.ring.enrolled.get(host.hostname)
    if known is not None and known.enrolled_at >= host.enrolled_at:
        return
    seen = EnrollmentSeen(host.hostname, host.public_key.public_key, host.enrolled_at, input.as_of)
    follow(state, commit, Followed(seen), now)
