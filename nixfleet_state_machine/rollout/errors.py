"""Refusals of the rollout machine: the event does not apply to the record. The record is untouched.

Source: docs/spec/rollout-machine.md, Transitions; docs/spec/rollout-machine.md, Opening a rollout.
"""

from datetime import datetime

from nixfleet_proto.errors import NixfleetError
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.state import RolloutRecord


class RolloutTransitionError(NixfleetError):
    """An event does not apply to a rollout's record. `record` is unchanged; `event` is what came."""

    def __init__(self, record: RolloutRecord, event: RolloutEvent) -> None:
        super().__init__(record, event)
        self.record = record
        self.event = event


class IllegalForRolloutState(RolloutTransitionError):
    """The event has no meaning in the state the rollout is in."""

    def __str__(self) -> str:
        return (
            f"{type(self.event).__name__} is not legal from {self.record.state.value} "
            f"(rollout {self.record.rollout_id})"
        )


class WrongRollout(RolloutTransitionError):
    """The event is about another rollout than the record."""

    def __str__(self) -> str:
        return (
            f"{type(self.event).__name__} is about another rollout than {self.record.rollout_id}: "
            f"{self.event}"
        )


class SupersessionExpected(NixfleetError):
    """A rollout was to be opened on a channel whose `live` rollout was not superseded first."""

    def __init__(self, live: RolloutRecord, opening: str, at: datetime) -> None:
        super().__init__(live, opening, at)
        self.live = live
        self.opening = opening
        self.at = at

    def __str__(self) -> str:
        return (
            f"cannot open {self.opening}: {self.live.rollout_id} is still {self.live.state.value} "
            f"on channel {self.live.channel}; expected SuccessorOpened for it first"
        )
