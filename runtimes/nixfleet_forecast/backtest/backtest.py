"""The releases of a log under another policy: the same engine, told the same from outside, and what came of it.

Source: docs/spec/forecast.md, Back-tests.
"""

from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeAlias, assert_never

from attrs import Factory, define, evolve, frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import (
    apply_command,
    enroll,
    fork,
    move_rollout,
)
from nixfleet_control_plane.engine.rollout_course import advance, count_verdict, heard
from nixfleet_control_plane.engine.state import HostKey, State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    Action,
    ClearRollout,
    CommandOutcome,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    PlanTick,
    RelayWarrant,
    ReleaseHold,
    Reply,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    HostEnrolled,
    IdentityForked,
)
from nixfleet_control_plane.messages.writes import PutRollout, Write
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.backtest.hosts import PlayedHosts
from nixfleet_forecast.backtest.recording import (
    Artefacts,
    Happened,
    Heard,
    Looked,
    PlanAsked,
    Recording,
    Verdicts,
)
from nixfleet_forecast.course import GOING
from nixfleet_forecast.draws import MedianDraws
from nixfleet_forecast.forecast import waits_of
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.planner.drift import drift_change
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.passing_time import next_edge, next_time
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    RolloutAborted,
    StandingChanged,
    Verdict,
)
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState

Revise: TypeAlias = Callable[[tuple[ArtefactTaken, ...]], tuple[ArtefactTaken, ...]]
"""Returns what CI would have published under another policy, in place of what it did."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_LATE_MAX: Final = timedelta(minutes=10)
_AFTER: Final = timedelta(days=30)
"""How long after the end of the log is looked."""


@define
class RolloutCourse:
    """How a rollout went. ended_at: when it was Terminal or halted first; `None`: it was not. state, wave: its last
    ones. begun: the hosts that were dispatched.
    """

    rollout_id: RolloutId
    opened_at: datetime
    state: RolloutState
    hosts: int = 0
    ended_at: datetime | None = None
    wave: int = 0
    begun: set[str] = Factory(set[str])
    harmed: set[str] = Factory(set[str])
    in_flight_max: int = 0

    @property
    def took(self) -> timedelta | None:
        """How long it was under way; `None`: it did not end."""
        return None if self.ended_at is None else self.ended_at - self.opened_at


@frozen
class BackTest:
    """How the rollouts of a log went. invented: how many hosts no dispatch of the log reached, and were taken to
    succeed. notes: what else was assumed, or did not apply."""

    rollouts: tuple[RolloutCourse, ...]
    invented: int = 0
    notes: tuple[str, ...] = ()


class _Ahead(Ahead):
    """Looks at the clock when it was looked at for what was due then."""

    def __init__(self, recording: Recording, state: State, zones: Zones, now: datetime) -> None:
        super().__init__(state, zones, now)
        self._recording = recording
        self._is_recorded = False

    def _next_edge(self) -> datetime | None:
        view = self.state.view
        due = next_time(view)
        hold = next_edge(view, self.state.calendar_due.get())
        times: list[tuple[datetime, bool]] = []
        if due is not None:
            recorded = self._recording.due.get(due)
            times.append((due, False) if recorded is None else (recorded, True))
        if hold is not None and hold != due:
            times.append(self._hold_moved(hold))
        if not times:
            return None
        at, self._is_recorded = min(times)
        return max(at, self._passed_over)

    def _hold_moved(self, due: datetime) -> tuple[datetime, bool]:
        moved = self._recording.holds_moved
        place = bisect_left(moved, due)
        is_near = place < len(moved) and moved[place] - due <= _LATE_MAX
        return (moved[place], True) if is_near else (due, False)

    def _is_first(self, edge: datetime, entry: datetime | None) -> bool:
        if self._is_recorded:
            # What was recorded then comes first, and looks at the clock itself.
            return entry is None or edge < entry
        return super()._is_first(edge, entry)


class Play:
    """One policy, played over a recording."""

    def __init__(
        self,
        recording: Recording,
        state: State,
        zones: Zones,
        revise: Revise = lambda taken: taken,
        *,
        is_taken_back: bool = False,
    ) -> None:
        """state: before the first row of the recording. is_taken_back: by the caller, with the state's undo log;
        otherwise the state is for this alone.
        """
        first = recording.happened[0].at if recording.happened else _NEVER
        self._recording = recording
        self._revise = revise
        self._state = state
        self._is_taken_back = is_taken_back
        self._ahead = ahead = _Ahead(recording, state, zones, first)
        self._known: dict[RolloutId, RolloutRecord] = {}
        self._courses: dict[RolloutId, RolloutCourse] = {}
        self._in_flight: dict[RolloutId, set[str]] = {}
        self._begun = set[RolloutId]()
        self._asked: list[Verdicts] = []
        self._notes: dict[str, None] = {}
        self._hosts = PlayedHosts(
            ahead,
            recording,
            MedianDraws(recording.durations),
            self._policy_of,
            self._recorded_policy_of,
        )

    def run(self, beyond: timedelta = _AFTER) -> BackTest:
        """Return how the rollouts went. beyond: how long after the last row of the log is looked."""
        if not self._recording.happened:
            return BackTest((), 0, ())
        ahead, hosts = self._ahead, self._hosts
        hosts.start()
        begin = ahead.on_queued

        def queued(dispatch: Dispatch) -> None:
            self._queued(dispatch)
            begin(dispatch)

        ahead.on_queued = queued
        ahead.on_commit = self._committed
        hosts.after = self._told
        for happened in self._recording.happened:
            ahead.at(happened.place, partial(self._happen, happened), happened.seq)
        last = max(self._recording.last_at, ahead.now)
        ahead.run(last + beyond, lambda: False)
        for rollout_id, course in self._courses.items():
            if course.ended_at is None:
                self._note_wait(rollout_id)
        return BackTest(tuple(self._courses.values()), len(hosts.invented), tuple(self._notes))

    # What came from outside.

    def _happen(self, happened: Happened) -> None:
        self._ahead.now = happened.at
        what = happened.what
        match what:
            case Artefacts():
                self._ahead.publish(self._revise(what.taken))
            case Heard():
                self._hear(what.event)
            case Verdicts():
                self._judge(what)
            case Looked():
                for host in what.heard:
                    self._state.last_heard.set(host, happened.at)
                for host in what.silent:
                    self._state.last_heard.discard(host)
                self._ahead.tell(PlanTick())
            case PlanAsked():
                self._ahead.plan()
            case HostEnrolled():
                enroll(self._state, CommitBuilder(), what, happened.at)
                self._ahead.plan()
            case IdentityForked():
                if what.host not in self._state.forked:
                    fork(self._state, CommitBuilder(), what, happened.at)
                    self._ahead.plan()
            case (
                PauseScope()
                | ResumeScope()
                | PlaceHold()
                | ReleaseHold()
                | ClearRollout()
                | RetireQuarantine()
                | ExcuseHosts()
                | SkipHosts()
                | RetryHosts()
                | AbortRollout()
                | RelayWarrant()
            ):
                self._command(what)
            case _:
                assert_never(what)

    def _hear(self, event: StandingChanged | HostDrifted | DriftEnded) -> None:
        state, now = self._state, self._ahead.now
        view = state.view
        if isinstance(event, StandingChanged):
            for host in event.hosts:
                heard(state, CommitBuilder(), host, view.rollouts_with(host), now)
        elif (
            event.rollout_id in view.open_rollouts
            and view.rollouts[event.rollout_id].state.is_served
        ):
            if isinstance(event, HostDrifted):
                due = drift_change(view, event.rollout_id, event.host_id, event.running, now)
                if isinstance(due, HostDrifted):
                    move_rollout(state, CommitBuilder(), due, now)
            elif event.host_id in view.rollouts[event.rollout_id].drifted:
                move_rollout(state, CommitBuilder(), event, now)
        self._ahead.plan()

    def _judge(self, verdicts: Verdicts) -> None:
        """Count what was said, now or once it is asked: a judge that was faster than the hosts has said it already."""
        first = verdicts.said[0]
        record = self._state.view.rollouts.get(first.rollout_id)
        if record is None or record.current_wave >= first.wave or not record.state.is_live:
            return
        if record.state.is_halted:
            return
        if record.guarded_since is None and self._is_check(first):
            self._asked.append(verdicts)
            return
        now = self._ahead.now
        for verdict in verdicts.said:
            move_rollout(self._state, CommitBuilder(), evolve(verdict, at=now), now)
            count_verdict(CommitBuilder(), verdict)
        advance(self._state, CommitBuilder(), first.rollout_id, now)
        self._ahead.plan()

    def _is_check(self, verdict: Verdict) -> bool:
        """Whether it answers a check, which counts once it is asked; statements of operators count before."""
        guards = self._state.view.terms(verdict.rollout_id).guards_of(verdict.wave)
        return any(check.name == verdict.guard for check in guards.checks)

    def _command(self, command: OperatorCommand) -> None:
        state, now = self._state, self._ahead.now
        if isinstance(command, RelayWarrant):
            if command.rollout_id in state.view.open_rollouts:
                self._relay(command)
            return
        if isinstance(command, SkipHosts):
            for host in command.hosts:
                state.last_heard.discard(host)
        outcome = self._ahead.tell(command)
        assert isinstance(outcome, CommandOutcome), outcome
        if outcome.refusal is not None:
            what = f"{type(command).__name__} by {command.operator} at {now:%Y-%m-%d %H:%MZ}"
            self._notes[f"{what} does not apply: {outcome.refusal}"] = None

    def _relay(self, command: RelayWarrant) -> None:
        # As the engine does, but for the signature, which was verified when it was taken.
        state, now = self._state, self._ahead.now
        apply_command(state, CommitBuilder(), Commanded(command), now)
        signed = decode_signed_warrant(command.warrant.encode())
        rollout = state.view.rollouts[command.rollout_id]
        if signed.warrant.rule is ClosureRule.PRIOR and rollout.state is not RolloutState.ABORTED:
            reason = f"recalled: {command.reason}"
            aborted = RolloutAborted(command.rollout_id, command.operator, reason, now)
            move_rollout(state, CommitBuilder(), aborted, now)
        self._ahead.plan()

    # What came of it.

    def _committed(self, commit: Commit[Write, Reply, Action], _: bool) -> None:
        if not self._is_taken_back:
            self._state.undo.settle()
        for write in commit.writes:
            if isinstance(write, PutRollout):
                self._look(write.record)
        for rollout_id, record in self._state.view.rollouts.items():
            if record is not self._known.get(rollout_id):
                self._look(record)
        if self._asked:
            waiting, self._asked = self._asked, []
            for verdicts in waiting:
                self._ahead.at(self._ahead.now, partial(self._judge, verdicts))
        spoke = self._hosts.speaking
        if spoke is not None:
            self._rest(spoke)
        for rollout_id in self._begun:
            course = self._courses[rollout_id]
            course.begun |= self._in_flight[rollout_id]
            course.in_flight_max = max(course.in_flight_max, len(self._in_flight[rollout_id]))
        self._begun.clear()

    def _look(self, record: RolloutRecord) -> None:
        rollout_id, now = record.rollout_id, self._ahead.now
        self._known[rollout_id] = record
        course = self._courses.get(rollout_id)
        if course is None:
            if (
                record.state is RolloutState.PRUNED
                or rollout_id not in self._state.view.open_rollouts
            ):
                return
            hosts = len(self._state.view.terms(rollout_id).targets)
            course = RolloutCourse(rollout_id, record.opened_at, record.state, hosts)
            self._courses[rollout_id] = course
        if record.state is not RolloutState.PRUNED:
            course.state, course.wave = record.state, record.current_wave
        if course.ended_at is None and record.state not in GOING:
            course.ended_at = now

    def _queued(self, dispatch: Dispatch) -> None:
        rollout_id = RolloutId(dispatch.rollout_id)
        self._in_flight.setdefault(rollout_id, set()).add(dispatch.hostname)
        self._begun.add(rollout_id)

    def _told(self, key: HostKey) -> None:
        view = self._state.view
        record = view.host(*key) if key[0] in view.open_rollouts else None
        if record is not None and record.has_failed and key[0] in self._courses:
            self._courses[key[0]].harmed.add(key[1])
        self._rest(key)

    def _rest(self, key: HostKey) -> None:
        """A host that is neither under way nor dispatched is not in flight."""
        view = self._state.view
        record = view.host(*key) if key[0] in view.open_rollouts else None
        if record is None or not (record.state.is_in_flight or view.is_queued(*key)):
            self._in_flight.get(key[0], set[str]()).discard(key[1])

    def _note_wait(self, rollout_id: RolloutId) -> None:
        if rollout_id in self._state.view.open_rollouts:
            for wait in waits_of(self._state, rollout_id)[:1]:
                self._notes[f"{rollout_id} does not end: {wait}"] = None

    # Policies.

    def _policy_of(self, rollout_id: RolloutId) -> OnHealthFailure:
        return self._state.manifests[rollout_id].manifest.rollout_policy.on_health_failure

    def _recorded_policy_of(self, rollout_id: RolloutId) -> OnHealthFailure | None:
        return self._recording.policies.get(rollout_id)
