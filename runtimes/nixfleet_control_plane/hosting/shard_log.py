"""The log of one shard as others follow it: its durable end, and its latest word on each of its channels.

Source: docs/spec/shards.md, Edges between shards.
"""

from collections.abc import Collection, Sequence
from typing import Final, Protocol, runtime_checkable

import anyio

from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen
from nixfleet_state_machine.shards.shard_map import ShardPlace

_TELLING: Final = frozenset({"artefact_accepted", "plan_action", "rollout_event"})
"""The kinds of rows after which the log may say something else of a channel."""


@runtime_checkable
class EndOfLog(Protocol):
    """What the read port of a store may have as well, so that a start need not read the whole log for its end."""

    async def end(self) -> tuple[int, bytes]:
        """Return the number and the hash of the last row of the log. Raises: NotReadable."""
        ...


async def end_of(queries: Queries) -> tuple[int, bytes]:
    """Return the number and the hash of the last row of a log. Raises: NotReadable, DamagedRow."""
    if isinstance(queries, EndOfLog):
        return await queries.end()
    chain = await queries.verify()
    if chain.problem is not None:
        raise DamagedRow(chain.rows + 1, "unknown", chain.problem)
    return chain.rows, chain.head_hash


class ShardLog:
    """One shard: its service, its read port, and the end of its log. Only what is durable is here."""

    def __init__(
        self,
        place: ShardPlace,
        service: ControlPlaneService,
        queries: Queries,
        end: tuple[int, bytes],
    ) -> None:
        """To be made while the service handles nothing. end: of the log, from `end_of`."""
        self.place = place
        self.service = service
        self.queries = queries
        self._seq, self._hash = end
        self._words: dict[str, ChannelSeen] = {}
        self._changed = anyio.Event()
        self._read(service.channels_with_words())

    @property
    def name(self) -> str:
        """The name of the shard."""
        return self.place.name

    @property
    def end(self) -> AsOf:
        """The last durable row."""
        return AsOf(self.name, self._seq, self._hash.hex())

    @property
    def words(self) -> Sequence[ChannelSeen]:
        """The latest word on each channel of which the log has something, by channel."""
        return tuple(word for _, word in sorted(self._words.items()))

    def word(self, channel: str) -> ChannelSeen:
        """Return the latest word on a channel of this shard: that nothing is in force, if the log has nothing of it."""
        return self._words.get(channel, ChannelSeen(channel, None, None, False, self.end))

    def next_news(self) -> anyio.Event:
        """Return what is set once the log says something else of a channel than now."""
        return self._changed

    def take(self, writes: Sequence[Write]) -> None:
        """Take what was committed, at once: the service's state is just that now."""
        rows = [write for write in writes if isinstance(write, LogRow)]
        for row in rows:
            self._seq, self._hash = row.seq, chain_hash(self._hash, row)
        told = {row.rollout_id for row in rows if row.kind in _TELLING}
        self._read({RolloutId(each).channel for each in told if each is not None})

    def _read(self, channels: Collection[str]) -> None:
        is_new = False
        for channel in channels:
            if self.place.has(channel):
                word, known = self.service.word_on(channel, self.end), self._words.get(channel)
                if known is None or not word.says_what(known):
                    self._words[channel] = word
                    is_new = True
        if is_new:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()
