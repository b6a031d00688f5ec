"""The writes of a commit: log rows, rows of derived views, rows of the record cache. Data.

Every row of a derived view names the log row that caused it, so the log explains every change.
Source: docs/spec/runtimes.md, Store.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import DeferDispatch
from nixfleet_state_machine.planner.holds.hold import Hold, HoldSource
from nixfleet_state_machine.planner.holds.scope import HoldScope
from nixfleet_state_machine.rollout.state import RolloutRecord


@frozen
class PutRollout:
    """Insert or replace the rollout's row."""

    record: RolloutRecord


@frozen
class OpenProbeFailure:
    """A probe, or one of its controls, that can hold later waves began to fail."""

    event_log_seq: int
    rollout_id: RolloutId
    host_id: str
    probe_name: str
    control_id: str | None
    framework: str | None
    observed_at: datetime


@frozen
class ClearProbeFailure:
    """The failure that row `event_log_seq` opened has ended. One row may have opened several controls."""

    event_log_seq: int
    probe_name: str
    control_id: str | None
    framework: str | None
    cleared_by_seq: int


@frozen
class PutQuarantine:
    channel: str
    closure: str
    quarantined_at: datetime
    triggering_event_log_seq: int


@frozen
class RetireQuarantineRow:
    channel: str
    closure: str
    cleared_by_seq: int


@frozen
class PutDispatch:
    dispatch: Dispatch
    event_log_seq: int
    queued_at: datetime


@frozen
class RemoveDispatch:
    hostname: str
    rollout_id: RolloutId


@frozen
class PutDeferral:
    """Why the host is held, and since when."""

    deferral: DeferDispatch
    since: datetime
    event_log_seq: int


@frozen
class RemoveDeferral:
    host: str
    rollout_id: RolloutId


@frozen
class PutBeginning:
    """A host was dispatched under a budget that limits the beginnings in a minute."""

    budget: str
    began_at: datetime
    event_log_seq: int


@frozen
class RemoveBeginnings:
    """The beginnings of the budget up to `begun_by` are over."""

    budget: str
    begun_by: datetime


@frozen
class RemoveBeginning:
    """One beginning of the budget at `began_at` was none: its host said "not now"."""

    budget: str
    began_at: datetime


@frozen
class PutHold:
    """A hold that began, in place of the one with its scope and source."""

    hold: Hold
    event_log_seq: int


@frozen
class RemoveHold:
    scope: HoldScope
    source: HoldSource


@frozen
class PutWarrant:
    """A warrant that was taken, as it was signed: it is relayed until its rollout is over."""

    order_id: str
    rollout_id: RolloutId
    warrant: str
    event_log_seq: int


@frozen
class RemoveWarrants:
    """The rollout is over, and all its warrants have expired: their orders are forgotten."""

    rollout_id: RolloutId


@frozen
class PutArtefact:
    """The log row of the artefact in force under this name."""

    name: str
    rollout_id: RolloutId | None
    event_log_seq: int


@frozen
class RemoveArtefact:
    name: str


@frozen
class PutEnrolledHost:
    host: EnrolledHost
    event_log_seq: int


@frozen
class PutUsedNonce:
    used: UsedNonce
    event_log_seq: int


@frozen
class RemoveUsedNonce:
    nonce: str


@frozen
class PutRevocation:
    revocation: Revocation
    event_log_seq: int


@frozen
class RemoveRevocations:
    """Remove all revocations: another list comes into force."""


@frozen
class PutRefusedEvent:
    """A fact that did not apply, and the reason to return whenever it is reported again.

    event_log_seq: of the refusal, or of what resumed the host since; that one is of no rollout.
    """

    rollout_id: RolloutId
    hostname: str
    seq: int
    reason: str
    event_log_seq: int


@frozen
class RemoveRefusedEvents:
    """hostname: `None`: those of all hosts."""

    rollout_id: RolloutId
    hostname: str | None = None


@frozen
class PutHostRecord:
    """Cache `record`, which is current up to log row `event_log_seq`."""

    record: HostRolloutState
    event_log_seq: int


@frozen
class SetRecordsThrough:
    """The cache holds every host record as of log row `event_log_seq`."""

    event_log_seq: int


@frozen
class RemoveHostRecords:
    """hostname: `None`: those of all hosts."""

    rollout_id: RolloutId
    hostname: str | None = None


IdentityWrite: TypeAlias = (
    PutEnrolledHost | PutUsedNonce | RemoveUsedNonce | PutRevocation | RemoveRevocations
)
ViewWrite: TypeAlias = (
    PutRollout
    | OpenProbeFailure
    | ClearProbeFailure
    | PutQuarantine
    | RetireQuarantineRow
    | PutDispatch
    | RemoveDispatch
    | PutDeferral
    | RemoveDeferral
    | PutBeginning
    | RemoveBeginnings
    | RemoveBeginning
    | PutHold
    | RemoveHold
    | PutWarrant
    | RemoveWarrants
    | PutArtefact
    | RemoveArtefact
    | PutRefusedEvent
    | RemoveRefusedEvents
    | IdentityWrite
)
CacheWrite: TypeAlias = PutHostRecord | SetRecordsThrough | RemoveHostRecords
Write: TypeAlias = LogRow | ViewWrite | CacheWrite
