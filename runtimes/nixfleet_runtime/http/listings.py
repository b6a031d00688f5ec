"""The pages that operators' lists return. Frozen data, and its JSON form.

`next` of a page is the `after` of the following request; the last page has none.
Source: docs/spec/wire.md, Operator calls.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.steering.warrant import ClosureRule, RecallStep
from nixfleet_runtime.transport import ActingRefusal
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.guards.states import GuardState
from nixfleet_state_machine.planner.host_status import HostDrift, Outside, StageDeadline, WaitsFor
from nixfleet_state_machine.planner.pace.status import BudgetStatus
from nixfleet_state_machine.planner.rollout_status import WaveStatus
from nixfleet_state_machine.rollout.state import RolloutState, Standing

PAGE_LENGTH_MAX: Final = 500


@frozen
class ListedGuard:
    """A guard of a wave, and how far it is. text: in words. until: when a bake is over."""

    name: str
    state: GuardState
    text: str
    is_waivable: bool = False
    until: datetime | None = None


@frozen
class ListedGuards:
    """The guards of the next wave. manifest_hash: what an approval is signed over.

    since: from when they are asked; absent while the wave before is not done.
    """

    wave: int
    manifest_hash: str
    guards: tuple[ListedGuard, ...]
    since: datetime | None = None

    @property
    def lacking(self) -> tuple[str, ...]:
        """What is missing before the wave begins, in words; of a guard that halted the rollout, that alone."""
        broken = tuple(it.text for it in self.guards if it.state is GuardState.BROKEN)
        return broken or tuple(it.text for it in self.guards if not it.state.lets_begin)


@frozen
class ListedRollout:
    """A rollout's state. waves, budgets: how each stands; none of a rollout that is pruned.
    guards: of the next wave.

    standings: how many hosts have each standing other than counted. begins_at: before which the waves that it has
    reached dispatch nothing, as their manifest signs; `None` once that is past.
    """

    rollout_id: RolloutId
    channel: str
    state: RolloutState
    current_wave: int
    opened_at: datetime
    excused_hosts: tuple[str, ...]
    waves: tuple[WaveStatus, ...] = ()
    standings: FrozenMap[str, int] = FrozenMap()
    begins_at: datetime | None = None
    budgets: tuple[BudgetStatus, ...] = ()
    guards: ListedGuards | None = None


@frozen
class RolloutPage:
    """Rollouts, oldest first, pruned ones included."""

    rollouts: tuple[ListedRollout, ...]
    next: str | None = None


@frozen
class ListedHost:
    """A host's state in a rollout. current_closure: the closure that it last reported to run.

    standing: how it counts. attempt: the number of its attempt.

    refusal: why its agent does not act in the rollout, by its last heartbeat.
    last_heard_at: its last request since the control plane started. clock_ahead_seconds, clock_behind_seconds: how far
    its clock was off then; the request's way counts as behind. drifted_to: what it runs instead of its target, although
    it converged.
    """

    hostname: str
    rollout_id: RolloutId
    state: HostState
    target_closure: str
    last_event_seq: int
    current_closure: str | None = None
    refusal: str | None = None
    last_heard_at: datetime | None = None
    clock_ahead_seconds: int | None = None
    clock_behind_seconds: int | None = None
    standing: Standing = Standing.COUNTED
    attempt: int = 1
    drifted_to: str | None = None


@frozen
class HostPage:
    """Hosts, ordered by rollout and name; pruned rollouts have none."""

    hosts: tuple[ListedHost, ...]
    next: str | None = None


@frozen
class ListedDeferral:
    """A held host: the gate that holds it, the reason, and the start time.

    until: the earliest time at which the gate's answer may change by itself; absent: not known.
    """

    hostname: str
    rollout_id: RolloutId
    gate: Gate
    reason: str
    since: datetime
    until: datetime | None = None


@frozen
class DeferralPage:
    """Held hosts, ordered by rollout and name."""

    deferrals: tuple[ListedDeferral, ...]
    next: str | None = None


@frozen
class ListedRow:
    """A line of the log: at most one fact. Facts of one report have one row and one signature, in hex.

    text: what happened, a sentence whose subject is `actor`. type, severity: of `line_types`, as text, since a newer
    control plane has more of them. All four are absent from a control plane that does not say them yet.
    """

    seq: int
    ts: datetime
    kind: str
    payload: FrozenMap[str, JsonValue]
    host: str | None = None
    signature: str | None = None
    rollout_id: str | None = None
    actor: str | None = None
    text: str | None = None
    type: str | None = None
    severity: str | None = None


@frozen
class FeedPage:
    """Lines of the log after a row, oldest first. next: the last row that was looked at. head: of the whole log.

    begins: the first row that the log has, if rows after the one that was asked for were exported and dropped.
    """

    events: tuple[ListedRow, ...]
    next: int
    head: int
    begins: int | None = None


@frozen
class LogPage:
    """Rows of the log of one rollout, oldest first."""

    events: tuple[ListedRow, ...]
    next: str | None = None


@frozen
class HoldingGate:
    """A gate that holds a host, and the reason.

    detail: the current numbers. until: the earliest time at which its answer may change by itself; absent: not known.
    """

    gate: Gate
    reason: str
    detail: str
    until: datetime | None = None


@frozen
class StatusInRollout:
    """Where a host stands in a rollout.

    state: since `since`. attempt: of `attempts`. wave: of 0 to `last_wave`; `None`: in none.
    deadline: of the stage that it is at; is_overdue: it has passed. soak_ends_at: the earliest end.
    retry_at: when its back-off is over. drift: what it runs instead of its target, although it converged.
    until: the earliest time to come at which something may change by itself; `None`: there is none.
    commands: what an operator may do about the host, unless it is done: commands of `nixfleet operator` without the
    options for the connection, each of which would be taken now.
    """

    rollout_state: RolloutState
    state: HostState
    standing: Standing
    attempt: int
    attempts: int
    last_wave: int
    waits_for: WaitsFor
    is_overdue: bool = False
    wave: int | None = None
    since: datetime | None = None
    deadline: StageDeadline | None = None
    soak_ends_at: datetime | None = None
    retry_at: datetime | None = None
    until: datetime | None = None
    drift: HostDrift | None = None
    commands: tuple[str, ...] = ()


@frozen
class ExplainedRollout:
    """A rollout of a host, and every gate that holds the host in it; no gates: it is not held.

    status: where the host stands in it; `None`: from a control plane that does not say so yet.
    """

    rollout_id: RolloutId
    gates: tuple[HoldingGate, ...]
    status: StatusInRollout | None = None


@frozen
class LeftRollout:
    """A rollout that a host left, since an amended release does not name it. since: `None`: not known."""

    rollout_id: RolloutId
    since: datetime | None = None


@frozen
class WaitingEvent:
    """An event of a host that cannot be true yet by the control plane's clock; the host sends it again."""

    rollout_id: str
    seq: int
    reason: str


@frozen
class ListedRecall:
    """An operator's order to a host to go back, and how far the host is with it.

    awaited: a host of a later wave that is to be back before its turn comes.
    """

    rollout_id: RolloutId
    order_id: str
    operator: str
    reason: str
    expires_at: datetime
    step: RecallStep
    awaited: str | None = None


@frozen
class HostExplained:
    """Where a host stands. rollouts: those that serve it. outside: why there are none. channel: as declared, if it is.

    refusals: what its agent does not act on, and why, by its last heartbeat.
    waiting_events: what it reported and cannot be true yet. left: rollouts that go on without it. recalls: the orders
    to it. The rest is as in `ListedHost`.
    """

    hostname: str
    rollouts: tuple[ExplainedRollout, ...]
    refusals: tuple[ActingRefusal, ...] = ()
    waiting_events: tuple[WaitingEvent, ...] = ()
    last_heard_at: datetime | None = None
    clock_ahead_seconds: int | None = None
    clock_behind_seconds: int | None = None
    channel: str | None = None
    outside: Outside | None = None
    left: tuple[LeftRollout, ...] = ()
    recalls: tuple[ListedRecall, ...] = ()


@frozen
class ChannelInForce:
    """What a channel points at. stale_at: when the control plane's window for the signature ends."""

    channel: str
    rollout_id: RolloutId
    signed_at: datetime
    stale_at: datetime


@frozen
class RefusedArtefact:
    """An artefact in the release directory that is not in force, and why."""

    name: str
    reason: str
    since: datetime


@frozen
class ReleaseStanding:
    """What is in force, and what is refused. problem: why the release directory cannot be read.

    left_out: what the control plane's start could not load from its database, and what follows.
    """

    channels: tuple[ChannelInForce, ...]
    refused: tuple[RefusedArtefact, ...]
    problem: str | None = None
    left_out: tuple[str, ...] = ()


@frozen
class RefusedEnrollment:
    """A host that asked to enroll and was refused. kind: the `type` of the answer. count: how often since the start."""

    hostname: str
    fingerprint: str
    kind: str
    reason: str
    last_at: datetime
    count: int


@frozen
class ListedHold:
    """A hold that is on: its scope and its source in their text forms, and the reason.

    since: when it began; absent: it follows from a signed artefact. until: when it ends by itself; absent: when
    somebody lifts it. text: who holds what, until when and why, a sentence. answer: what ends it, a sentence. holder:
    the operator whose hold it is. is_liftable: whether an operator's command ends it. An earlier control plane leaves
    the last four out.
    """

    scope: str
    source: str
    reason: str
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    answer: str | None = None
    holder: str | None = None
    is_liftable: bool | None = None


@frozen
class HoldList:
    """All holds that are on, by scope and source."""

    holds: tuple[ListedHold, ...]


@frozen
class ListedWarrant:
    """A warrant that is relayed. hosts: that it is for; none: all of the rollout.

    to_go: hosts that are to go back yet. going: hosts that roll back. refusing: of those that were told, the ones that
    refuse something of the rollout.
    """

    order_id: str
    rollout_id: RolloutId
    rule: ClosureRule
    operator: str
    reason: str
    issued_at: datetime
    expires_at: datetime
    to_go: int
    going: int
    refusing: int
    hosts: tuple[str, ...] = ()


@frozen
class WarrantList:
    """All warrants that are relayed, the oldest first."""

    warrants: tuple[ListedWarrant, ...]


@frozen
class RefusedEnrollments:
    """The hosts whose enrollment was refused, the latest first; at most 100."""

    enrollments: tuple[RefusedEnrollment, ...]


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
ROLLOUT_PAGE: Final = Coder[RolloutPage](_SPELLING, RolloutPage, "list of rollouts")
HOST_PAGE: Final = Coder[HostPage](_SPELLING, HostPage, "list of hosts")
DEFERRAL_PAGE: Final = Coder[DeferralPage](_SPELLING, DeferralPage, "list of waiting hosts")
LISTED_ROW: Final = Coder[ListedRow](_SPELLING, ListedRow, "line of the log")
FEED_PAGE: Final = Coder[FeedPage](_SPELLING, FeedPage, "page of the feed")
LOG_PAGE: Final = Coder[LogPage](_SPELLING, LogPage, "page of the log")
RELEASE_STANDING: Final = Coder[ReleaseStanding](_SPELLING, ReleaseStanding, "standing of releases")
REFUSED_ENROLLMENTS: Final = Coder[RefusedEnrollments](
    _SPELLING, RefusedEnrollments, "list of refused enrollments"
)
WARRANT_LIST: Final = Coder[WarrantList](_SPELLING, WarrantList, "list of warrants")
HOLD_LIST: Final = Coder[HoldList](_SPELLING, HoldList, "list of holds")
HOST_EXPLAINED: Final = Coder[HostExplained](_SPELLING, HostExplained, "explanation")
