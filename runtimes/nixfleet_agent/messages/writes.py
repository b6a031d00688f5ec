"""What a commit can ask of the journal. Data.

Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Intents.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.messages.inputs import Intent
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState


@frozen
class AppendEvent:
    """A fact, to be sent; its row is kept after that."""

    rollout_id: RolloutId
    fact: AgentEvent
    emitted_at: datetime


@frozen
class PutRecord:
    """The record of a rollout, its policy, when it was closed here, and up to which fact it was not lived here."""

    record: HostRolloutState
    policy: RolloutPolicy
    closed_at: datetime | None
    taken_over_seq: int = 0


@frozen
class PutIntent:
    """The act is about to begin."""

    intent: Intent


@frozen
class RemoveIntent:
    """The act is over, and what came of it is in the journal."""

    intent_id: int


@frozen
class MarkAcknowledged:
    row_ids: tuple[int, ...]


@frozen
class MarkRefused:
    """The row stays, with the reason; it is not sent again."""

    row_id: int
    reason: str


@frozen
class MarkUnsent:
    """The rows of this rollout from `from_seq` on are to be sent again, those that were refused too.

    Who asks for them has lost what it knew, its refusals as well; without them there would be a gap for good.
    """

    rollout_id: RolloutId
    from_seq: int


@frozen
class RemoveRollout:
    """Retention passed: the rollout's record and rows go."""

    rollout_id: RolloutId


Write: TypeAlias = (
    AppendEvent
    | PutRecord
    | PutIntent
    | RemoveIntent
    | MarkAcknowledged
    | MarkRefused
    | MarkUnsent
    | RemoveRollout
)
