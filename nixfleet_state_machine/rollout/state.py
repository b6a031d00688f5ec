"""The record of one rollout. Frozen; `step_rollout` makes successors.

Source: docs/spec/rollout-machine.md, Record; docs/spec/rollout-machine.md, States.
"""

from datetime import datetime, timedelta
from typing import assert_never

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId

RETENTION_DEFAULT = timedelta(hours=72)


class RolloutState(WordEnum):
    """Completes "the rollout is …". The values are the wire's."""

    OPENING = "Opening"
    ACTIVE = "Active"
    CONVERGING = "Converging"
    TERMINAL = "Terminal"
    REVERTED = "Reverted"
    FAILED = "Failed"
    SUPERSEDED = "Superseded"
    PRUNED = "Pruned"

    @property
    def is_terminal_for_ordering(self) -> bool:
        """Whether channels that wait for this rollout may proceed."""
        return self is RolloutState.TERMINAL or self is RolloutState.SUPERSEDED

    @property
    def is_halted(self) -> bool:
        """Whether it dispatches no host until an operator clears it."""
        return self is RolloutState.REVERTED or self is RolloutState.FAILED

    @property
    def is_live(self) -> bool:
        """Whether the planner considers its hosts; those of a halted one get a reason."""
        match self:
            case RolloutState.TERMINAL | RolloutState.SUPERSEDED | RolloutState.PRUNED:
                return False
            case (
                RolloutState.OPENING
                | RolloutState.ACTIVE
                | RolloutState.CONVERGING
                | RolloutState.REVERTED
                | RolloutState.FAILED
            ):
                return True
            case _:
                assert_never(self)


@frozen
@checked
class RolloutRecord:
    """Everything that is known of one rollout as a whole.

    opened_event_log_seq, last_transition_event_log_seq: rows of the canonical log, set by who writes it.
    excused_hosts: hosts that an operator took out of the count for waves and for Terminal.
    """

    rollout_id: RolloutId
    channel: str
    target_ref: str
    state: RolloutState
    current_wave: int
    opened_event_log_seq: int
    last_transition_event_log_seq: int
    opened_at: datetime
    terminal_at: datetime | None = None
    superseded_at: datetime | None = None
    retention: timedelta = RETENTION_DEFAULT
    excused_hosts: frozenset[str] = frozenset()
