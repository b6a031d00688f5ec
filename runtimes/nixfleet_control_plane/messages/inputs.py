"""What can be put to the control-plane engine, and what it replies. Data.

Source: docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Mapping
from typing import TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, KeyRing
from nixfleet_proto.enrollment import BootstrapNonces, EnrollRequest, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import TrustedKey, Verified
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
class HostEvents:
    """Facts that `hostname` reports, in order. Who it is was checked before."""

    hostname: str
    envelopes: tuple[AgentEventEnvelope, ...]


@frozen
class DispatchPoll:
    """`hostname` asks whether a dispatch waits for it."""

    hostname: str


@frozen
class ManifestPoll:
    """Somebody asks for a rollout's manifest, as it was signed."""

    rollout_id: str


@frozen
class ManifestsUpdated:
    """CI published these. Every manifest must be anchored in `fleet`."""

    fleet: Verified[FleetResolved]
    manifests: tuple[Verified[RolloutManifest], ...]


@frozen
class ListsUpdated:
    """CI published these: who is revoked, and whose tokens are good."""

    revocations: Verified[Revocations] | None = None
    nonces: Verified[BootstrapNonces] | None = None


@frozen
class EnrollHost:
    """A host wants to be known. signer: the key that the request's own signature was good for."""

    request: EnrollRequest
    signer: TrustedKey


@frozen
class ArtefactRejected:
    """An artefact did not verify; kept in the log, since somebody may be trying something."""

    name: str
    reason: str


@frozen
class PauseScope:
    """Hold all dispatches of `scope`: a channel's name or a rollout id."""

    scope: str
    operator: str
    reason: str


@frozen
class ResumeScope:
    """Take a hold back."""

    scope: str
    operator: str
    reason: str


@frozen
class ClearRollout:
    """Let a halted rollout go on without `excused_hosts`; empty means those that failed or reverted."""

    rollout_id: RolloutId
    operator: str
    reason: str
    excused_hosts: frozenset[str] = frozenset()


@frozen
class RetireQuarantine:
    """Let `closure` be handed to hosts of `channel` again."""

    channel: str
    closure: str
    operator: str
    reason: str


OperatorCommand: TypeAlias = PauseScope | ResumeScope | ClearRollout | RetireQuarantine


@frozen
class ExplainHost:
    """An operator asks for every gate that holds `hostname`."""

    hostname: str


@frozen
class ListHosts:
    """An operator asks for records of hosts: up to `limit`, after a rollout and host."""

    after: tuple[str, str] | None
    limit: int


@frozen
class PlanTick:
    """Time passed: look whether anything has become due."""


@frozen
class FlushRecords:
    """Write up to `limit` host records that the cache table does not have yet."""

    limit: int


Input: TypeAlias = (
    HostEvents
    | DispatchPoll
    | ManifestPoll
    | Heartbeat
    | ManifestsUpdated
    | ListsUpdated
    | EnrollHost
    | ArtefactRejected
    | OperatorCommand
    | ExplainHost
    | ListHosts
    | PlanTick
    | FlushRecords
)


@frozen
class DispatchAnswer:
    """The dispatch that waits for the host, if any."""

    dispatch: Dispatch | None


@frozen
class ManifestAnswer:
    """The manifest of the rollout, if it is known."""

    artefact: SignedArtefact | None


@frozen
class ManifestsOutcome:
    """Which manifests were taken, by rollout id, and why the others were not."""

    taken: tuple[RolloutId, ...]
    refused: tuple[tuple[str, str], ...]


@frozen
class ListsOutcome:
    """Which lists were taken, by name, and why the others were not."""

    taken: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


@frozen
class EnrollOutcome:
    """The host as it is known now, or why it is not."""

    answer: EnrolledHost | EnrollmentObjection


@frozen
class CommandOutcome:
    """`None`: done. Otherwise why the command was not carried out."""

    refusal: str | None = None


@frozen
class Explanation:
    """Every gate that holds the host, by rollout."""

    blocks: Mapping[RolloutId, tuple[GateBlock, ...]]


@frozen
class HostList:
    """Records of hosts in the rollouts that are not pruned, by rollout and name."""

    records: tuple[HostRolloutState, ...]


@frozen
class Flushed:
    """How many host records the cache table still lacks."""

    left: int


@frozen
class Totals:
    """How much there is. rollouts: by state."""

    head_seq: int
    manifests: int
    enrolled: int
    rollouts: Mapping[RolloutState, int]


@frozen
class Done:
    """Nothing to say."""


Reply: TypeAlias = (
    EventsOutcome
    | DispatchAnswer
    | ManifestAnswer
    | HeartbeatReply
    | ManifestsOutcome
    | ListsOutcome
    | EnrollOutcome
    | CommandOutcome
    | Explanation
    | HostList
    | Flushed
    | Done
)


@frozen
class WakeHost:
    """Tell the pollers of `hostname` that a dispatch waits."""

    hostname: str


@frozen
class UseKeys:
    """Tell who authenticates requests that these are the hosts' keys now."""

    ring: KeyRing


Action: TypeAlias = WakeHost | UseKeys | EmitMetric | EmitLog
