"""Strategies for shards: their map, what ties channels together, and what one log says of a channel to another."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.shards.bonds import Bond, ShardsJoined
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap, ShardPlace
from nixfleet_testing.strategies.names import channels

_OTHERS = ("east", "west")
_HASHES = st.sampled_from(("0" * 64, "a" * 64, "f" * 64))
_BUDGETS = st.sampled_from(("{ all = true }", '{ tags = ["db"] }'))


def shard_maps() -> SearchStrategy[ShardMap]:
    """Return a strategy for maps with up to two shards beside the first one."""

    def with_names(names: tuple[str, ...]) -> SearchStrategy[ShardMap]:
        placed: SearchStrategy[dict[str, str]] = st.just({})
        if names:
            placed = st.dictionaries(channels(), st.sampled_from(names), max_size=2)
        return placed.map(lambda found: ShardMap(names, FrozenMap(found)))

    return st.sampled_from(((), _OTHERS[:1], _OTHERS)).flatmap(with_names)


def shard_places() -> SearchStrategy[ShardPlace]:
    """Return a strategy for a shard and the map that it is on."""
    return shard_maps().flatmap(
        lambda found: st.sampled_from((MAIN, *found.names)).map(
            lambda name: ShardPlace(found, name)
        )
    )


def bonds() -> SearchStrategy[Bond]:
    """Return a strategy for budgets that several channels share."""
    shared = st.sets(channels(), min_size=2, max_size=3).map(lambda found: tuple(sorted(found)))
    return st.builds(Bond, _BUDGETS, shared)


def shards_joined() -> SearchStrategy[ShardsJoined]:
    """Return a strategy for budgets whose channels are in two shards."""
    return bonds().flatmap(
        lambda bond: st.integers(1, len(bond.channels) - 1).map(
            lambda at: ShardsJoined(
                bond.budget, (("east", bond.channels[:at]), (MAIN, bond.channels[at:]))
            )
        )
    )


def places_in_logs() -> SearchStrategy[AsOf]:
    """Return a strategy for rows of a log, with hashes that are of no log."""
    return st.builds(AsOf, st.sampled_from((MAIN, *_OTHERS)), st.integers(0, 9), _HASHES)


def channels_seen() -> SearchStrategy[ChannelSeen]:
    """Return a strategy for what a log says of a channel: nothing is in force, or a rollout is."""

    def of_channel(channel: str) -> SearchStrategy[ChannelSeen]:
        nothing = st.builds(
            ChannelSeen, st.just(channel), st.none(), st.none(), st.just(False), places_in_logs()
        )
        refs = st.sampled_from(("r1", "r2")).map(lambda ref: RolloutId.of(channel, ref))
        offered = st.builds(
            ChannelSeen,
            st.just(channel),
            refs,
            st.none() | _HASHES,
            st.booleans(),
            places_in_logs(),
        )
        return nothing | offered

    return channels().flatmap(of_channel)
