"""The scope of a pause: one channel, or one rollout. Data, and the text form that commands, log and store use.

The text form is the channel's name or the rollout id. A channel's name contains no `@` and a rollout id always does,
so the two cannot be confused.
"""

from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.ids import RolloutId


@frozen
class ChannelScope:
    """Every rollout of a channel."""

    channel: str

    def __str__(self) -> str:
        return self.channel


@frozen
class RolloutScope:
    """One rollout."""

    rollout_id: RolloutId

    def __str__(self) -> str:
        return self.rollout_id


HoldScope: TypeAlias = ChannelScope | RolloutScope
"""`str` of one is its text form; `parse_scope` reads it."""


def parse_scope(text: str) -> HoldScope:
    """Return the scope whose text form is `text`. Raises: InvalidRolloutId, when `text` has an `@` and is no id."""
    return RolloutScope(RolloutId(text)) if "@" in text else ChannelScope(text)
