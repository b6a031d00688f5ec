"""Judges a control plane by its log alone: was everybody who was dispatched allowed to go?

Written from the design's words, row by row, without the planner's code: what the manifests say, who has reported
what, and what operators ordered. It knows one channel.
"""

from collections.abc import Iterable
from typing import assert_never

from attrs import Factory, define

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    FactRefused,
    FactReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    LoggedLine,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    RollbackComplete,
)
from nixfleet_proto.codec import decode_manifest
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_state_machine.planner.action import (
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.rollout.event import OperatorClearance, RolloutEvent


@define
class Course:
    """How a rollout has gone so far. done: hosts that were Converged or Deferred at some time."""

    manifest: RolloutManifest
    queued: set[str] = Factory(set[str])
    in_flight: set[str] = Factory(set[str])
    acknowledged: set[str] = Factory(set[str])
    activated: set[str] = Factory(set[str])
    done: set[str] = Factory(set[str])
    excused: set[str] = Factory(set[str])
    is_halted: bool = False

    @property
    def wave_of(self) -> dict[str, int]:
        return {entry.hostname: entry.wave_index for entry in self.manifest.host_set}


class Judge:
    """Reads a log, and raises `AssertionError` at the first dispatch that should not have been."""

    def __init__(self) -> None:
        self.dispatches = 0
        self._manifests: dict[RolloutId, RolloutManifest] = {}
        self._courses: dict[RolloutId, Course] = {}
        self._current: RolloutId | None = None
        self._holds: set[str] = set()
        self._quarantined: set[str] = set()

    def read(self, log: Iterable[LoggedLine]) -> None:
        """Judge the rows of a log, in order."""
        for logged in log:
            entry = logged.entry
            match entry:
                case FactReported():
                    self._hear(entry)
                case RolloutMoved():
                    self._move(entry.event)
                case Planned():
                    self._plan(logged.seq, entry.action)
                case Commanded():
                    self._obey(entry.command)
                case ArtefactTaken():
                    if entry.rollout_id is not None:
                        body = entry.body.encode()
                        self._manifests[entry.rollout_id] = decode_manifest(body)
                case (
                    Deferred()
                    | Returned()
                    | HoldMoved()
                    | ArtefactRefused()
                    | FactRefused()
                    | IdentityForked()
                    | HostEnrolled()
                    | Followed()
                ):
                    pass
                case _:
                    assert_never(entry)

    def _hear(self, entry: FactReported) -> None:
        course = self._courses[entry.rollout_id]
        course.queued.discard(entry.host)
        self._follow(course, entry.host, entry.fact)

    def _follow(self, course: Course, host: str, fact: AgentEvent) -> None:
        match fact:
            case DispatchAck():
                course.acknowledged.add(host)
                course.in_flight.add(host)
            case ActivationCompleted():
                course.activated.add(host)
                course.in_flight.add(host)
            case Converged() | ActivationDeferred():
                course.done.add(host)
                course.in_flight.discard(host)
            case Failed() | ActivationFailed():
                course.in_flight.discard(host)
                course.is_halted |= host not in course.excused
            case RollbackComplete() if fact.exit_code == 0:
                course.is_halted |= host not in course.excused
                if host in course.activated:
                    self._quarantined.add(_closure(course, host))
            case _:
                pass

    def _move(self, event: RolloutEvent) -> None:
        if isinstance(event, OperatorClearance):
            course = self._courses[event.rollout_id]
            course.is_halted = False
            course.excused |= event.excused_hosts

    def _plan(self, seq: int, action: OpenRollout | QueueDispatch | WithdrawDispatch) -> None:
        match action:
            case OpenRollout():
                assert action.rollout_id not in self._courses, f"row {seq} opens it a second time"
                manifest = self._manifests[action.rollout_id]
                self._courses[action.rollout_id] = Course(manifest)
                self._current = action.rollout_id
            case QueueDispatch():
                objection = self._objection(action)
                assert objection is None, f"row {seq} dispatches {action.host}: {objection}"
                self._courses[action.rollout_id].queued.add(action.host)
                self.dispatches += 1
            case WithdrawDispatch():
                self._courses[action.rollout_id].queued.discard(action.host)
            case _:
                assert_never(action)

    def _obey(self, command: OperatorCommand) -> None:
        match command:
            case PauseScope():
                self._holds.add(str(command.scope))
            case ResumeScope():
                self._holds.discard(str(command.scope))
            case PlaceHold() | ReleaseHold():
                pass  # The scripts that it judges hold nothing until a time.
            case RetireQuarantine():
                self._quarantined.discard(command.closure)
            case ClearRollout():
                pass  # Whom it excused comes as an event.
            case AbortRollout() | RelayWarrant():
                self._courses[command.rollout_id].is_halted = True
            case ExcuseHosts() | SkipHosts() | RetryHosts():
                pass  # So do their consequences.
            case _:
                assert_never(command)

    def _objection(self, action: QueueDispatch) -> str | None:
        """Why the host must not go."""
        course = self._courses[action.rollout_id]
        manifest = course.manifest
        wave = course.wave_of[action.host]
        behind = {
            host
            for host, its_wave in course.wave_of.items()
            if its_wave < wave and host not in course.done | course.excused
        }
        objections = {
            "a newer rollout took over": action.rollout_id != self._current,
            "the manifest says otherwise": action.target_closure != _closure(course, action.host),
            "it has gone already": action.host in course.acknowledged | course.queued,
            "its rollout is halted": course.is_halted,
            "it is on hold": bool(self._holds & {manifest.channel, action.rollout_id}),
            "its closure is quarantined": action.target_closure in self._quarantined,
            f"{behind} of earlier waves are not done": bool(behind),
            "its budget is taken": _is_full(course, action.host),
        }
        return next((words for words, holds in objections.items() if holds), None)


def _closure(course: Course, host: str) -> str:
    closure = course.manifest.target_of(host)
    assert closure is not None, host
    return closure


def _is_full(course: Course, host: str) -> bool:
    return any(
        budget.max_in_flight is not None
        and len((course.in_flight | course.queued) & set(budget.hosts)) >= budget.max_in_flight
        for budget in course.manifest.disruption_budgets
        if host in budget.hosts
    )
