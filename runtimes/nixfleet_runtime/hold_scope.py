"""The scope of a pause: a channel, a rollout or a host. Data, and the text form that commands, log and store use.

The text form is the channel's name, the rollout id, or `host:` and the host's name. A channel's name contains neither
`@` nor `:`, and a rollout id has its `@` before any `:` of its ref, so the three cannot be confused.
"""

from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import HOST_HOLD, host_hold


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
        return str(self.rollout_id)


@frozen
class HostScope:
    """One host, in every rollout."""

    hostname: str

    def __str__(self) -> str:
        return host_hold(self.hostname)


HoldScope: TypeAlias = ChannelScope | RolloutScope | HostScope
"""`str` of one is its text form; `parse_scope` reads it."""


def parse_scope(text: str) -> HoldScope:
    """Return the scope whose text form is `text`. Raises: InvalidRolloutId, when `text` has an `@` and is no id."""
    if text.startswith(HOST_HOLD):
        return HostScope(text.removeprefix(HOST_HOLD))
    return RolloutScope(RolloutId(text)) if "@" in text else ChannelScope(text)
