"""Which shard has which channel. Data.

Source: docs/spec/shards.md, The map.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.frozen_map import FrozenMap

MAIN: Final = "main"
"""The shard that has the identities, and every channel that no other shard names."""


@frozen
@checked
class ShardMap:
    """The shards of a fleet. channels: the shard of each channel that is not in `MAIN`.

    names: all shards beside `MAIN`; one may have no channel yet.
    """

    names: tuple[str, ...] = ()
    channels: FrozenMap[str, str] = FrozenMap()

    def _contradictions(self) -> Iterator[ValueProblem]:
        if MAIN in self.names:
            yield ValueProblem("names", f"no {MAIN!r}, which is always there", f"{MAIN!r}")
        for channel, name in self.channels.items():
            if name != MAIN and name not in self.names:
                yield ValueProblem(f"channels[{channel!r}]", "a shard that is named", repr(name))

    @classmethod
    def of(cls, channels_of: Mapping[str, Iterable[str]]) -> Self:
        """Return the map in which each shard has the channels given for it.

        Raises: InvalidValue, with every channel that is in two shards.
        """
        shard_of: dict[str, str] = {}
        problems: list[ValueProblem] = []
        for name, channels in channels_of.items():
            for channel in channels:
                other = shard_of.setdefault(channel, name)
                if other != name:
                    found = f"shards {other!r} and {name!r}"
                    problems.append(ValueProblem(f"channels[{channel!r}]", "one shard", found))
        if problems:
            raise InvalidValue("ShardMap.of", tuple(problems))
        names = tuple(sorted(name for name in channels_of if name != MAIN))
        return cls(names, FrozenMap(shard_of))

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every shard, `MAIN` first."""
        return (MAIN, *self.names)

    def shard_of(self, channel: str) -> str:
        """Return the shard that has `channel`."""
        return self.channels.get(channel, MAIN)


@frozen
class ShardPlace:
    """One shard among all: its own channels, and those of others.

    name: of this shard. The place of a control plane without shards has every channel.
    """

    map: ShardMap = ShardMap()
    name: str = MAIN

    def has(self, channel: str) -> bool:
        """Whether `channel` belongs to this shard."""
        return self.map.shard_of(channel) == self.name


ONLY: Final = ShardPlace()
"""The place of a control plane that has one shard."""
