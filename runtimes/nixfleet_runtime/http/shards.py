"""The shards of a fleet, as an operator sees them. Frozen data, and its JSON form.

Source: docs/spec/shards.md, Operators' calls.
"""

from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case


@frozen
class ListedShard:
    """One shard. channels: those that something is in force for, and those that the configuration names, in order.

    head: the number of the last row of its log. queue_length: of the inputs that wait for its engine.
    """

    name: str
    channels: tuple[str, ...]
    head: int
    queue_length: int


@frozen
class ShardList:
    """Every shard, `main` first."""

    shards: tuple[ListedShard, ...]


SHARD_LIST: Final = Coder[ShardList](
    Spelling(camel_case, Absent.LEFT_OUT), ShardList, "list of shards"
)
