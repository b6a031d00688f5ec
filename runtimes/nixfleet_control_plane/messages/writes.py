"""What a commit can ask of the store: log rows, rows of derived views, rows of the record cache. Data.

A derived view says which log row it came from. Nothing is updated in place that the log does not explain.
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
from nixfleet_state_machine.rollout.state import RolloutRecord


@frozen
class PutRollout:
    """The rollout's row is this record."""

    record: RolloutRecord


@frozen
class OpenProbeFailure:
    """A probe (or one control of it) that may gate began to fail."""

    event_log_seq: int
    rollout_id: RolloutId
    host_id: str
    probe_name: str
    control_id: str | None
    framework: str | None
    observed_at: datetime


@frozen
class ClearProbeFailure:
    """The failure that row `event_log_seq` opened is over. One row may have opened several controls."""

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


@frozen
class RemoveDispatch:
    hostname: str
    rollout_id: RolloutId


@frozen
class PutDeferral:
    """Why the host waits, since when."""

    deferral: DeferDispatch
    since: datetime
    event_log_seq: int


@frozen
class RemoveDeferral:
    host: str
    rollout_id: RolloutId


@frozen
class PutHold:
    scope: str
    operator: str
    reason: str
    held_at: datetime
    event_log_seq: int


@frozen
class RemoveHold:
    scope: str


@frozen
class PutArtefact:
    """The log row that holds the artefact in force under this name."""

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
    """All of them: another list comes into force."""


@frozen
class PutRefusedEvent:
    """A fact that the record could not take: what its sender is told when it comes again."""

    rollout_id: RolloutId
    hostname: str
    seq: int
    reason: str
    event_log_seq: int


@frozen
class RemoveRefusedEvents:
    rollout_id: RolloutId


@frozen
class PutHostRecord:
    """The record cache: `record` is true up to `event_log_seq`."""

    record: HostRolloutState
    event_log_seq: int


@frozen
class SetRecordsThrough:
    """Every host record as of `event_log_seq` is in the cache."""

    event_log_seq: int


@frozen
class RemoveHostRecords:
    rollout_id: RolloutId


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
    | PutHold
    | RemoveHold
    | PutArtefact
    | RemoveArtefact
    | PutRefusedEvent
    | RemoveRefusedEvents
    | IdentityWrite
)
CacheWrite: TypeAlias = PutHostRecord | SetRecordsThrough | RemoveHostRecords
Write: TypeAlias = LogRow | ViewWrite | CacheWrite
