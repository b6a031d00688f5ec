"""The answer of `GET /v1/overview`: how the current rollouts stand, in numbers and in sentences. Frozen data.

Sentences are computed by the control plane; whoever shows them draws and decides nothing. Numbers of hosts are those
that count unless it says otherwise. Texts may quote hosts and operators, and are to be escaped where they are shown.
Source: docs/spec/overview.md.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import WordEnum
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http.listings import ListedGuards
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.pace.status import BudgetStatus
from nixfleet_state_machine.planner.rollout_status import WaveState
from nixfleet_state_machine.rollout.state import RolloutState


class Course(WordEnum):
    """How a rollout goes, in one word; completes "the rollout is …", but for HAS_FAILURES. The values are the wire's.

    GOING_WELL: nothing failed. HAS_FAILURES: hosts failed, and it goes on. HELD: nothing more begins by itself now.
    HALTED: until an operator clears it. ABORTED: for good. COMPLETE: every wave is done. SUPERSEDED: by another one.
    LOST: the control plane lost what it runs under.
    """

    GOING_WELL = "going well"
    HAS_FAILURES = "has failures"
    HELD = "held"
    HALTED = "halted"
    ABORTED = "aborted"
    COMPLETE = "complete"
    SUPERSEDED = "superseded"
    LOST = "lost"


class NeedKind(WordEnum):
    """What only a person moves. The values are the wire's."""

    APPROVAL = "approval"
    HALTED = "halted"
    ABORTED = "aborted"
    LOST = "lost"
    QUARANTINE = "quarantine"
    HOLD = "hold"
    LAPSED = "lapsed"
    OVERDUE = "overdue"
    UNSTAGED = "unstaged"
    DRIFT = "drift"
    FRESHNESS = "freshness"
    ARTEFACT = "artefact"
    RELEASE_DIRECTORY = "release-directory"
    LEFT_OUT = "left-out"
    ENROLLMENT = "enrollment"
    REFUSING = "refusing"


class EdgeKind(WordEnum):
    """What comes at a known time. The values are the wire's."""

    HOLD_ENDS = "hold-ends"
    CALENDAR = "calendar"
    WAVE_BEGINS = "wave-begins"
    BAKE_ENDS = "bake-ends"
    DEADLINE = "deadline"
    SLOT_RETURNS = "slot-returns"
    GOES_STALE = "goes-stale"
    PRUNED = "pruned"


@frozen
class Need:
    """One thing that only a person moves.

    text: what is so, a sentence. since: `None`: not known. until: when it changes for the worse, if that is known.
    role: of operators who may answer. who: if only some of them may, their names. commands: which `nixfleet operator`
    commands answer it, the first thought first, without their options for the connection: each would be taken now; of
    many hosts they name the first. command: the first of them; `None`: no command does, `answer` says what does.
    answer: what to do, a sentence. hosts: how many it is about; `None`: it is about no hosts. subject: the host,
    closure, scope or artefact that it is about. holder: of a hold, the operator whose it is.
    """

    kind: NeedKind
    text: str
    answer: str
    since: datetime | None = None
    until: datetime | None = None
    role: OperatorRole = OperatorRole.OPERATE
    who: tuple[str, ...] = ()
    command: str | None = None
    rollout_id: RolloutId | None = None
    channel: str | None = None
    wave: int | None = None
    hosts: int | None = None
    subject: str | None = None
    commands: tuple[str, ...] = ()
    holder: str | None = None


@frozen
class OverviewWave:
    """A wave. wave: `None`: the hosts that are in no wave. text: how it stands, some words.

    hosts: that the manifest names in it. total: of them, those that count. states: of those that count by their state,
    in the order of the states. standings: of the others. percent: of those that count, how many are done; 100 only when
    all are. failed: also those that lapsed or try again. allowed: how many may fail. absent: that it does not wait for.
    soak_seconds: at least, after the switch. begins_at: before which it dispatches nothing; `None`: at once, or past.
    bake_until: when its bake is over; `None`: it has none, or the wave before is not done. guards: before it begins.
    waits_for: what it waits for, a sentence; `None`: it has begun, or is done.
    """

    wave: int | None
    text: str
    verdict: WaveState
    is_current: bool
    hosts: int
    total: int
    percent: int
    states: FrozenMap[str, int]
    standings: FrozenMap[str, int]
    converged: int
    failed: int
    allowed: int
    absent: int
    soak_seconds: int
    begins_at: datetime | None = None
    bake_until: datetime | None = None
    guards: ListedGuards | None = None
    waits_for: str | None = None


@frozen
class WaitingHosts:
    """Hosts that wait for one reason. gate: the first one that holds them. detail: the current numbers.

    since: when the first of them, without a break, began to wait so; `None`: not known. until: the earliest time at
    which it may change by itself; `None`: not by the time alone, or not for all of them.
    """

    hosts: int
    gate: Gate
    reason: str
    detail: str = ""
    since: datetime | None = None
    until: datetime | None = None


@frozen
class Risk:
    """If everything that is under way failed now. lines: the same in sentences.

    in_flight: hosts that are under way. failed: of the current wave. allowed: how many of it may fail.
    tolerance_left: how many more may fail before the rollout halts; 0: the first one does. worst_case: hosts that have
    failed then, or might be down, with those that failed before. worst_failed: at most over the whole rollout, as it
    is signed; `None`: not signed. quarantined: closures of the channel, the first ones by name. quarantined_count: all.
    """

    in_flight: int
    failed: int
    allowed: int
    tolerance_left: int
    worst_case: int
    budgets: tuple[BudgetStatus, ...]
    quarantined: tuple[str, ...]
    quarantined_count: int
    lines: tuple[str, ...]
    worst_failed: int | None = None


@frozen
class ComingEdge:
    """What is certain to come at a time if nothing happens before. Forecasts are elsewhere."""

    at: datetime
    kind: EdgeKind
    text: str
    wave: int | None = None


@frozen
class RolloutOverview:
    """How one rollout stands.

    headline: one sentence. course: its verdict in a word. state: the rollout's. percent: of hosts that count, how many
    are done: Converged, or failed and tolerated by a wave that is done; 100 only when all are. hosts: that the manifest
    names. total: of them, those that count. states: of those that count by their state. standings: of the others.
    failed: also those that lapsed or try again. is_in_force: the channel's manifest names it. author: who wrote the
    release, if it is said. closure: if all hosts are to run the same one. closures: how many there are.
    waiting: hosts that wait for a dispatch. more_waiting: of them, those that are in no item of `waits`.
    """

    rollout_id: RolloutId
    channel: str
    channel_ref: str
    headline: str
    course: Course
    state: RolloutState
    is_in_force: bool
    opened_at: datetime
    percent: int
    hosts: int
    total: int
    converged: int
    failed: int
    waiting: int
    more_waiting: int
    current_wave: int
    closures: int
    states: FrozenMap[str, int]
    standings: FrozenMap[str, int]
    waves: tuple[OverviewWave, ...]
    needs_you: tuple[Need, ...]
    waits: tuple[WaitingHosts, ...]
    next: tuple[ComingEdge, ...]
    risk: Risk | None = None
    on_failure: OnHealthFailure | None = None
    author: str | None = None
    ci_commit: str | None = None
    signed_at: datetime | None = None
    stale_at: datetime | None = None
    terminal_at: datetime | None = None
    closure: str | None = None


@frozen
class Asker:
    """The operator who asks."""

    name: str
    role: OperatorRole


@frozen
class ServedBy:
    """The control plane that leads. epoch: rises with each takeover."""

    url: str
    epoch: int


@frozen
class FleetCounts:
    """Hosts over the whole fleet. silent: heard since the start, and not for three minutes.

    refusing: whose agent does not act on something. knocking: whose enrollment was refused, at most 100.
    declared: whose key the fleet declares; one of them may be enrolled, too.
    """

    enrolled: int
    silent: int
    refusing: int
    knocking: int
    declared: int = 0


@frozen
class Overview:
    """How the fleet stands. head: the last row of the log, written at head_at. now: the control plane's time.

    needs_you: what is about no rollout. rollouts: the current ones of all channels, by channel; or the one that was
    asked for. leader: which of several control planes on one store answers; `None`: it has its store alone.
    """

    head: int
    now: datetime
    you: Asker
    fleet: FleetCounts
    needs_you: tuple[Need, ...]
    rollouts: tuple[RolloutOverview, ...]
    head_at: datetime | None = None
    leader: ServedBy | None = None


OVERVIEW: Final = Coder[Overview](Spelling(camel_case, Absent.LEFT_OUT), Overview, "overview")
