"""What can happen to a rollout as a whole, in the past tense. Agents never see these.

Source: docs/spec/rollout-machine.md, Events.
"""

from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState


@frozen
@checked
class RolloutOpened:
    """The record was made, by `open_rollout`; no existing record takes this event."""

    rollout_id: RolloutId
    channel: str
    target_ref: str
    at: datetime


@frozen
@checked
class HostJoined:
    """A dispatch was queued for the host, or its first fact arrived, whichever was earlier."""

    rollout_id: RolloutId
    host_id: str
    wave: int
    at: datetime


@frozen
@checked
class HostStateChanged:
    """The record of a host in this rollout moved from `from_` to `to`."""

    rollout_id: RolloutId
    host_id: str
    from_: HostState
    to: HostState
    at: datetime


@frozen
@checked
class WaveAdvanced:
    """Wave `from_wave` is done; equal waves mean that it was the last one."""

    rollout_id: RolloutId
    from_wave: int
    to_wave: int
    at: datetime


@frozen
@checked
class RolloutTerminal:
    """Every host is Converged or excused."""

    rollout_id: RolloutId
    at: datetime


@frozen
@checked
class SuccessorOpened:
    """A newer rollout of the same channel takes over."""

    superseded_rollout_id: RolloutId
    successor_rollout_id: RolloutId
    at: datetime


@frozen
@checked
class RetentionExpired:
    """The rollout has rested for its retention time, and may be pruned."""

    rollout_id: RolloutId
    at: datetime


@frozen
@checked
class OperatorClearance:
    """An operator looked at a halted rollout and lets it go on without `excused_hosts`."""

    rollout_id: RolloutId
    operator: str
    reason: str
    excused_hosts: frozenset[str]
    at: datetime


RolloutEvent: TypeAlias = (
    RolloutOpened
    | HostJoined
    | HostStateChanged
    | WaveAdvanced
    | RolloutTerminal
    | SuccessorOpened
    | RetentionExpired
    | OperatorClearance
)


def subject_of(event: RolloutEvent) -> RolloutId:
    """Return the rollout whose record the event is for."""
    match event:
        case SuccessorOpened():
            return event.superseded_rollout_id
        case (
            RolloutOpened()
            | HostJoined()
            | HostStateChanged()
            | WaveAdvanced()
            | RolloutTerminal()
            | RetentionExpired()
            | OperatorClearance()
        ):
            return event.rollout_id
        case _:
            assert_never(event)
