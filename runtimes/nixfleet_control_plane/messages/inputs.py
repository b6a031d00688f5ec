"""The inputs of the control-plane engine, its replies and its actions. Data.

Source: docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, KeyRing
from nixfleet_proto.enrollment import BootstrapNonces, EnrollRequest, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.steering.approval import SignedApproval
from nixfleet_proto.trust import TrustedKey, Verified
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_runtime.transport import EventEarly, EventsOutcome, Heartbeat, HeartbeatReply
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.planner.holds.hold import HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import HoldScope
from nixfleet_state_machine.planner.host_status import HostInFleet
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import Drift, RolloutState, Standing
from nixfleet_state_machine.shards.channel_seen import AsOf, ChannelSeen


@frozen
class Signed:
    """What a host signed, byte for byte, and its signature as hex: the canonical JSON of an envelope or of a batch."""

    payload: bytes
    signature: str | None


@frozen
class HostEvents:
    """Facts that `hostname` reports, in order. The host has been authenticated.

    signed: what it signed, of facts that are all of one rollout; `None`: they came without a network, each with a
    signature or without.
    """

    hostname: str
    envelopes: tuple[AgentEventEnvelope, ...]
    signed: Signed | None = None


@frozen
class DispatchPoll:
    """`hostname` asks for its queued dispatch."""

    hostname: str


@frozen
class ManifestPoll:
    """A request for a rollout's manifest, byte for byte as it was signed.

    hostname: the host that asks, which the manifest has to name; `None` if no host asks.
    """

    rollout_id: str
    hostname: str | None = None


@frozen
class ManifestsUpdated:
    """A release that CI published. Every manifest must be anchored in `fleet`.

    channels: those of which the release has a manifest, in `manifests` or taken before; empty: those of `manifests`.
    """

    fleet: Verified[FleetResolved]
    manifests: tuple[Verified[RolloutManifest], ...]
    channels: frozenset[str] = frozenset()

    @property
    def released_channels(self) -> frozenset[str]:
        """The channels of which the release has a manifest."""
        return self.channels or frozenset(each.value.channel for each in self.manifests)


@frozen
class ListsUpdated:
    """Lists that CI published: revoked keys, and the nonces of valid enrollment tokens."""

    revocations: Verified[Revocations] | None = None
    nonces: Verified[BootstrapNonces] | None = None


@frozen
class EnrollHost:
    """A host asks to enroll. signer: the key that verified the HTTP request's signature."""

    request: EnrollRequest
    signer: TrustedKey


@frozen
class SeeChannel:
    """The log of another shard says something of one of its channels."""

    seen: ChannelSeen


@frozen
class SeeEnrollment:
    """The log of the shard with the identities says that a host enrolled."""

    host: EnrolledHost
    as_of: AsOf


@frozen
class ArtefactRejected:
    """An artefact failed verification. Logged, since it may be an attack."""

    name: str
    reason: str


@frozen
class PauseScope:
    """Hold all dispatches of `scope`, in the operator's name and without an end."""

    scope: HoldScope
    operator: str
    reason: str


@frozen
class ResumeScope:
    """Lift the pause of `scope`, and let a host that contradicted itself go on."""

    scope: HoldScope
    operator: str
    reason: str


@frozen
class PlaceHold:
    """Hold all dispatches of `scope` in the operator's name, until a time if one is given.

    It takes the place of the operator's earlier hold of the same scope.
    """

    scope: HoldScope
    operator: str
    reason: str
    until: datetime | None = None


@frozen
class ReleaseHold:
    """Lift one hold of an operator on `scope`. holder: whose; `None`: the operator's own."""

    scope: HoldScope
    operator: str
    reason: str
    holder: str | None = None

    @property
    def source(self) -> HoldSource:
        """The source of the hold that is lifted."""
        return operator_source(self.operator if self.holder is None else self.holder)


def operator_source(name: str) -> HoldSource:
    """Return the source of the holds of the operator with this name."""
    return HoldSource(HoldKind.OPERATOR, name)


@frozen
class ClearRollout:
    """Clear a halted rollout, excusing `excused_hosts`; empty means the hosts that failed or reverted."""

    rollout_id: RolloutId
    operator: str
    reason: str
    excused_hosts: frozenset[str] = frozenset()


@frozen
class RetireQuarantine:
    """Allow `closure` to be dispatched to hosts of `channel` again."""

    channel: str
    closure: str
    operator: str
    reason: str


@frozen
class ExcuseHosts:
    """Go on without these hosts of a rollout: they count for nothing any more."""

    rollout_id: RolloutId
    hosts: frozenset[str]
    operator: str
    reason: str


@frozen
class SkipHosts:
    """Do not wait for these hosts, which are silent. Each is served once it is heard of."""

    rollout_id: RolloutId
    hosts: frozenset[str]
    operator: str
    reason: str


@frozen
class RetryHosts:
    """Let these failed hosts try again; empty means all that failed and may."""

    rollout_id: RolloutId
    hosts: frozenset[str]
    operator: str
    reason: str


@frozen
class AbortRollout:
    """End a rollout: it begins nothing any more. Hosts in flight finish or fail by their own policy."""

    rollout_id: RolloutId
    operator: str
    reason: str


@frozen
class RelayWarrant:
    """Relay an operator's warrant to hosts of a rollout. warrant: as it was signed. The rollout ends by a recall.

    Source: docs/spec/warrants.md.
    """

    rollout_id: RolloutId
    warrant: str
    operator: str
    reason: str


OperatorCommand: TypeAlias = (
    PauseScope
    | ResumeScope
    | PlaceHold
    | ReleaseHold
    | ClearRollout
    | RetireQuarantine
    | ExcuseHosts
    | SkipHosts
    | RetryHosts
    | AbortRollout
    | RelayWarrant
)


@frozen
class GiveApproval:
    """An operator's signed statement on a wave."""

    signed: SignedApproval


@frozen
class CheckQuestion:
    """Which question a judge is asked: a check of a wave, since its guards were last asked anew.

    opened_seq: the log row since which the rollout goes on. manifest_signature: of the manifest in force. After a
    clearance or another manifest it is another question, so an answer that was on its way counts no more.
    """

    rollout_id: RolloutId
    wave: int
    check: str
    opened_seq: int
    manifest_signature: bytes


@frozen
class ReportVerdict:
    """A judge of a check answered a question, or did not."""

    question: CheckQuestion
    outcome: Outcome
    reason: str
    evidence: str = ""


@frozen
class ExplainHost:
    """An operator asks which gates hold `hostname`."""

    hostname: str


@frozen
class ListHosts:
    """An operator asks for host records: up to `limit`, after the given rollout and host."""

    after: tuple[str, str] | None
    limit: int


@frozen
class PlanTick:
    """Time has passed: handle whatever has become due."""


@frozen
class FlushRecords:
    """Write up to `limit` host records that the cache table lacks."""

    limit: int


Input: TypeAlias = (
    HostEvents
    | DispatchPoll
    | ManifestPoll
    | Heartbeat
    | ManifestsUpdated
    | ListsUpdated
    | EnrollHost
    | SeeChannel
    | SeeEnrollment
    | ArtefactRejected
    | OperatorCommand
    | GiveApproval
    | ReportVerdict
    | ExplainHost
    | ListHosts
    | PlanTick
    | FlushRecords
)


@frozen
class DispatchAnswer:
    """The host's queued dispatch, if any."""

    dispatch: Dispatch | None


@frozen
class ManifestAnswer:
    """The rollout's manifest, if the rollout is known."""

    artefact: SignedArtefact | None


@frozen
class ManifestsOutcome:
    """The rollout ids of the accepted manifests; for each refused one, its rollout id and the reason.

    waiting: those that are neither, and what each waits for: they are to be offered again.
    """

    taken: tuple[RolloutId, ...]
    refused: tuple[tuple[str, str], ...]
    waiting: tuple[tuple[RolloutId, str], ...] = ()


@frozen
class ListsOutcome:
    """The names of the accepted lists; for each refused one, its name and the reason."""

    taken: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


@frozen
class EnrollOutcome:
    """The enrolled host, or the reason why it may not enroll."""

    answer: EnrolledHost | EnrollmentObjection


@frozen
class CommandOutcome:
    """refusal: why the command was not carried out; `None` if it was. note: what the operator should know of it."""

    refusal: str | None = None
    note: str | None = None


@frozen
class Explanation:
    """Where the host stands. early: its facts that cannot be true yet.

    status: `None`: no fleet in force and no open rollout names the host, and `known` are the hosts that they name.
    """

    status: HostInFleet | None
    early: tuple[EventEarly, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def blocks(self) -> Mapping[RolloutId, tuple[GateBlock, ...]]:
        """All gates that hold the host, by rollout in which it waits for a dispatch."""
        return {} if self.status is None else self.status.blocks


@frozen
class HostList:
    """Records of hosts in rollouts that are not pruned, ordered by rollout and name.

    standings, drifts: one per record; `None`: it has not drifted.
    """

    records: tuple[HostRolloutState, ...]
    standings: tuple[Standing, ...]
    drifts: tuple[Drift | None, ...]


@frozen
class Flushed:
    """left: how many host records the cache table still lacks."""

    left: int


@frozen
class Totals:
    """Current totals. rollouts: their number by state. drifted: hosts that run something else than they
    converged to.
    """

    head_seq: int
    manifests: int
    enrolled: int
    rollouts: Mapping[RolloutState, int]
    drifted: int = 0


@frozen
class WaveTotals:
    """Numbers of hosts over the waves of all rollouts that are served.

    absent: those that no wave waits for, because they do not come. tolerated: those that count as failed in waves that
    are not broken.
    """

    absent: int
    tolerated: int


@frozen
class InForce:
    """What a channel points at. window_minutes: the freshness window that its manifest declares."""

    channel: str
    rollout_id: RolloutId
    signed_at: datetime
    window_minutes: int | None


@frozen
class Done:
    """The input was handled; there is nothing to return."""


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
    """Wake the polls of `hostname`: a dispatch is queued."""

    hostname: str


@frozen
class UseKeys:
    """Authenticate requests with this key ring from now on."""

    ring: KeyRing


Action: TypeAlias = WakeHost | UseKeys | EmitMetric | EmitLog
