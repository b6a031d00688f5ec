"""The writes of a commit to the journal. Data.

Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Intents.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.engine.downgrade import ObeyedRelease, RolledBackClosure
from nixfleet_agent.messages.inputs import Intent
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState


@frozen
class AppendEvent:
    """Append a fact, to be sent; its row is kept after that."""

    rollout_id: RolloutId
    fact: AgentEvent
    emitted_at: datetime


@frozen
class PutRecord:
    """Add or replace a rollout; see `LocalRollout`."""

    record: HostRolloutState
    policy: RolloutPolicy
    closed_at: datetime | None
    taken_over_seq: int = 0
    home_at: datetime | None = None


@frozen
class PutIntent:
    """Add an intent before it begins, or replace it as it begins again."""

    intent: Intent


@frozen
class RemoveIntent:
    """Remove an intent whose outcome is in the journal."""

    intent_id: int


@frozen
class MarkAcknowledged:
    row_ids: tuple[int, ...]


@frozen
class MarkRefused:
    """Keep the row with the reason of the refusal; it is not sent again."""

    row_id: int
    reason: str


@frozen
class MarkUnsent:
    """Send the rows of this rollout from `from_seq` on again, including refused ones.

    A control plane that asks for them has lost its refusals too; without them there would be a permanent gap.
    """

    rollout_id: RolloutId
    from_seq: int


@frozen
class SetRolloutAside:
    """The rollout's record goes; its facts stay, under another name, and are never sent: they have no beginning."""

    rollout_id: RolloutId
    at: datetime


@frozen
class PutNewestRelease:
    """The newest release this host obeyed; older ones are refused from now on."""

    release: ObeyedRelease


@frozen
class PutRolledBack:
    """The host is about to roll back from this closure; only a release signed later may bring it again."""

    left: RolledBackClosure


@frozen
class PutOrder:
    """An order of a warrant was obeyed in this rollout; it is obeyed no second time. Kept for good.

    Written again when an order that overrides the host's lock was used: it has no `overrides_until` then.
    """

    order_id: str
    rollout_id: RolloutId
    obeyed_at: datetime
    is_recall: bool = True
    overrides_until: datetime | None = None


@frozen
class RemoveRollout:
    """Remove the rollout's record and rows, after their retention."""

    rollout_id: RolloutId


Write: TypeAlias = (
    AppendEvent
    | PutRecord
    | PutIntent
    | RemoveIntent
    | MarkAcknowledged
    | MarkRefused
    | MarkUnsent
    | SetRolloutAside
    | PutNewestRelease
    | PutRolledBack
    | PutOrder
    | RemoveRollout
)
