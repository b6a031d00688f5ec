"""What one log says of a channel to another: which rollout is in force, of which release, and whether it is done.

It is read late and never wrong: a shard takes what another log said only if it was said later than what it has.
Source: docs/spec/shards.md, Edges between shards.
"""

from collections.abc import Iterator

from attrs import frozen

from nixfleet_proto.checked import at_least, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.ids import RolloutId

HASH_LENGTH = 64


@frozen
@checked
class AsOf:
    """A place in the log of a shard: the number and the hash of a row. Row 0 is before the first one.

    hash: in hex. It covers every row up to this one, so it pins the whole log that was read.
    """

    shard: str
    seq: int
    hash: str

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("seq", self.seq, 0)
        if len(self.hash) != HASH_LENGTH or not set(self.hash) <= set("0123456789abcdef"):
            yield ValueProblem("hash", f"{HASH_LENGTH} hexadecimal digits", repr(self.hash))

    def __str__(self) -> str:
        return f"row {self.seq} of shard {self.shard}"


@frozen
@checked
class ChannelSeen:
    """What the log of another shard says of one of its channels.

    offered_rollout_id: the rollout that others wait for, the one that its manifest in force names; `None`: nothing is
    in force. release: the hash of the fleet in which that manifest is anchored; `None`: nothing is, or it was lost.
    done: whether that rollout is done for those that wait. as_of: the last row that was read.
    """

    channel: str
    offered_rollout_id: RolloutId | None
    release: str | None
    done: bool
    as_of: AsOf

    def _contradictions(self) -> Iterator[ValueProblem]:
        offered = self.offered_rollout_id
        if offered is None and self.done:
            yield ValueProblem("done", "false, since no rollout is named", "true")
        if offered is None and self.release is not None:
            yield ValueProblem("release", "none, since no rollout is named", repr(self.release))
        if offered is not None and offered.channel != self.channel:
            yield ValueProblem(
                "offered_rollout_id", f"a rollout of channel {self.channel}", repr(str(offered))
            )

    def says_what(self, other: "ChannelSeen") -> bool:
        """Whether both say the same of the same channel, though maybe as of different rows."""
        return (self.channel, self.offered_rollout_id, self.release, self.done) == (
            other.channel,
            other.offered_rollout_id,
            other.release,
            other.done,
        )

    def is_stale_after(self, through: AsOf | None) -> bool:
        """Whether it was said no later than `through`, up to which the same log was read for this channel already.

        Another shard's log begins anew: the channel was moved there.
        """
        if through is None or through.shard != self.as_of.shard:
            return False
        return self.as_of.seq <= through.seq

    def has_decided(self, release: str) -> bool:
        """Whether the manifest in force is of the release with this hash."""
        return self.release == release
