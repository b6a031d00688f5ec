"""Which shard an operator's command is for. Pure.

Source: docs/spec/shards.md, Hosting.
"""

from typing import assert_never

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)


def routed(command: OperatorCommand) -> str | None:
    """Return the channel whose shard carries `command` out; `None`: every shard does."""
    match command:
        case PauseScope() | ResumeScope() | PlaceHold() | ReleaseHold():
            return _channel_of(command.scope)
        case RetireQuarantine():
            return command.channel
        case (
            ClearRollout()
            | ExcuseHosts()
            | SkipHosts()
            | RetryHosts()
            | AbortRollout()
            | RelayWarrant()
        ):
            return command.rollout_id.channel
        case _:
            assert_never(command)


def _channel_of(scope: HoldScope) -> str | None:
    match scope:
        case FleetScope() | HostScope():
            return None
        case ChannelScope() | GroupScope():
            return scope.channel
        case RolloutScope() | WaveScope():
            return scope.rollout_id.channel
        case _:
            assert_never(scope)
