"""Effects of the rollout machine: orders for the control plane. Data, in the imperative.

Source: docs/spec/rollout-machine.md, Effects.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.checked import checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
@checked
class RecordRolloutTransition:
    """The rollout went from `from_` to `to`."""

    rollout_id: RolloutId
    from_: RolloutState
    to: RolloutState
    at: datetime


@frozen
@checked
class UpdateCurrentWave:
    """The rollout's wave cursor is now `wave`; it never falls."""

    rollout_id: RolloutId
    wave: int


@frozen
@checked
class SchedulePruning:
    """Send `RetentionExpired` when this long has passed."""

    rollout_id: RolloutId
    delay_seconds: int


RolloutEffect: TypeAlias = RecordRolloutTransition | UpdateCurrentWave | SchedulePruning
