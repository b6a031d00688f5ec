"""What ties channels together so that they must be in one shard: budgets that they share. Pure.

The slots of a budget are counted over all channels whose budgets have equal selectors, so one log has to see them all.
Channel edges do not tie: what they need of another log is told (`channel_seen`).
Source: docs/spec/shards.md, What crosses channels.
"""

from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

from nixfleet_proto.fleet import FleetResolved
from nixfleet_state_machine.scopes.selector import enabled_hosts, select, summary
from nixfleet_state_machine.shards.shard_map import ShardMap


@frozen
class Bond:
    """A budget that several channels share. budget: its selector on one line. channels: in order, two or more."""

    budget: str
    channels: tuple[str, ...]


@frozen
class ShardsJoined:
    """A bond whose channels are in more than one shard. channels_of: by shard, in order."""

    budget: str
    channels_of: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def channels(self) -> frozenset[str]:
        """All channels of the bond."""
        return frozenset(each for _, channels in self.channels_of for each in channels)

    def __str__(self) -> str:
        found = "; ".join(
            f"{', '.join(channels)} in shard {name!r}" for name, channels in self.channels_of
        )
        return (
            f"the budget {self.budget} is shared by channels of several shards: expected all in one shard, found "
            f"{found}; give each shard a budget of its own (a selector with the channel), or put these channels into "
            "one shard"
        )


def bonds_of(fleet: FleetResolved) -> tuple[Bond, ...]:
    """Return the budgets that hosts of several channels share, by name. O(budgets · hosts).

    Hosts that take no part in rollouts share nothing.
    """
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    channels_of: dict[str, set[str]] = {}
    for budget in fleet.disruption_budgets:
        members = select(budget.selector, enabled)
        channels = channels_of.setdefault(summary(budget.selector), set())
        channels.update(enabled[name].channel for name in members)
    return tuple(
        Bond(budget, tuple(sorted(channels)))
        for budget, channels in sorted(channels_of.items())
        if len(channels) > 1
    )


def components(channels: Iterable[str], bonds: Iterable[Bond]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of channels that bonds tie together, directly or through others; each channel is in one.

    In order, as are the channels of each: the finest division into shards.
    """
    leader = {channel: channel for channel in channels}

    def root(channel: str) -> str:
        while leader.setdefault(channel, channel) != channel:
            leader[channel] = leader[leader[channel]]
            channel = leader[channel]
        return channel

    for bond in bonds:
        for channel in bond.channels:
            first, second = sorted((root(bond.channels[0]), root(channel)))
            leader[second] = first
    groups: dict[str, list[str]] = {}
    for channel in sorted(leader):
        groups.setdefault(root(channel), []).append(channel)
    return tuple(tuple(group) for _, group in sorted(groups.items()))


def joined(shards: ShardMap, bonds: Iterable[Bond]) -> Iterator[ShardsJoined]:
    """Yield each bond that would join shards."""
    for bond in bonds:
        found: dict[str, list[str]] = {}
        for channel in bond.channels:
            found.setdefault(shards.shard_of(channel), []).append(channel)
        if len(found) > 1:
            yield ShardsJoined(bond.budget, _in_order(found))


def _in_order(found: Mapping[str, list[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(channels)) for name, channels in sorted(found.items()))
