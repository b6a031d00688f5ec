"""Who is told what: the words that each shard's channels wait for, and their delivery.

A word that cannot be written now is told again: a follower that is late holds its hosts longer, and nothing else.
Source: docs/spec/shards.md, Edges between shards.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from nixfleet_control_plane.hosting.shard_log import ShardLog
from nixfleet_control_plane.messages.inputs import SeeChannel, SeeEnrollment
from nixfleet_control_plane.messages.key_ring import EnrolledHost
from nixfleet_proto.fleet import FleetResolved
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import EngineFault, MutatorClosed, WriteFailed
from nixfleet_state_machine.planner.terms import predecessors_of
from nixfleet_state_machine.shards.channel_seen import ChannelSeen
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap

_RETRY_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class Telling:
    """Delivers the words of each shard to those whose channels wait for its channels."""

    def __init__(self, shards: ShardMap, logs: Mapping[str, ShardLog], clock: Clock) -> None:
        self._shards = shards
        self._logs = logs
        self._clock = clock
        self._followers: dict[str, set[str]] = {}

    def note_edges(self, fleet: FleetResolved) -> None:
        """From now on, tell also those who wait by the edges of `fleet`. Edges that a later fleet lacks are told on."""
        for channel in fleet.channels:
            follower = self._shards.shard_of(channel)
            for before in predecessors_of(channel, fleet):
                if self._shards.shard_of(before) != follower:
                    self._followers.setdefault(before, set()).add(follower)

    async def tell_all(self) -> None:
        """Tell every shard the latest word on each channel that it follows. Raises: WriteFailed, EngineFault."""
        for channel in sorted(self._followers):
            await self._tell(self._logs[self._shards.shard_of(channel)].word(channel))

    async def run(self, log: ShardLog) -> None:
        """Tell what the log of one shard says, as soon as it says something else; until cancelled or closed."""
        failure: str | None = None
        while True:
            news = log.next_news()
            try:
                for word in log.words:
                    await self._tell(word)
                failure = None
            except MutatorClosed:
                return
            except (WriteFailed, EngineFault) as error:
                if str(error) != failure:
                    _log.error("a word of shard %s could not be taken: %s", log.name, error)
                failure = str(error)
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            await news.wait()

    async def _tell(self, word: ChannelSeen) -> None:
        for name in sorted(self._followers.get(word.channel, ())):
            await self._logs[name].service.follow(SeeChannel(word))

    async def tell_enrolled(self, hosts: Iterable[EnrolledHost]) -> None:
        """Tell every other shard that these hosts enrolled at `MAIN`. Raises: WriteFailed, EngineFault."""
        as_of = self._logs[MAIN].end
        for host in hosts:
            for log in self._others():
                await log.service.follow(SeeEnrollment(host, as_of))

    def unheard(self) -> tuple[EnrolledHost, ...]:
        """Return the enrollments that some shard does not know: a process ended in between."""
        enrolled = self._logs[MAIN].service.ring().enrolled
        rings = [log.service.ring().enrolled for log in self._others()]
        return tuple(
            host
            for hostname, host in enrolled.items()
            if any(ring.get(hostname) != host for ring in rings)
        )

    def _others(self) -> Iterator[ShardLog]:
        return (log for name, log in self._logs.items() if name != MAIN)
