"""What each line of the log is, in one name: the type by which readers of the feed choose. Pure.

A row of a rollout event is in the log only if it changed the record, so a host's failure in one halted the rollout.
Source: docs/spec/notifications.md, Types.
"""

from collections.abc import Callable
from typing import TypeAlias, assert_never

from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    EnrollmentSeen,
    FactRefused,
    FactReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    Line,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.line_types import LineType
from nixfleet_state_machine.planner.action import OpenRollout, QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.planner.holds.hold import HoldBegan, HoldEnded
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)

AsksApproval: TypeAlias = Callable[[RolloutId, int], bool]
"""Whether a wave of a rollout waits for approvals now."""


def type_of(line: Line, asks_approval: AsksApproval) -> LineType:
    """Return the type of `line`."""
    match line:
        case FactReported():
            return _fact_type(line.fact)
        case FactRefused():
            return LineType.HOST_FACT_REFUSED
        case IdentityForked():
            return LineType.HOST_FORKED
        case RolloutMoved():
            return _event_type(line.event, asks_approval)
        case Planned():
            return _plan_type(line.action)
        case Deferred():
            return LineType.HOST_DEFERRED
        case Returned():
            return LineType.BUDGET_RETURNED
        case HoldMoved():
            match line.event:
                case HoldBegan():
                    return LineType.HOLD_BEGAN
                case HoldEnded():
                    return LineType.HOLD_ENDED
                case _:
                    assert_never(line.event)
        case Commanded():
            return LineType.OPERATOR_COMMANDED
        case ArtefactTaken():
            return LineType.ARTEFACT_ACCEPTED
        case ArtefactRefused():
            return LineType.ARTEFACT_REFUSED
        case HostEnrolled():
            return LineType.HOST_ENROLLED
        case Followed():
            is_enrollment = isinstance(line.seen, EnrollmentSeen)
            return LineType.HOST_ENROLLED if is_enrollment else LineType.CHANNEL_SEEN
        case _:
            assert_never(line)


def _plan_type(action: OpenRollout | QueueDispatch | WithdrawDispatch) -> LineType:
    match action:
        case OpenRollout():
            return LineType.ROLLOUT_OPENED
        case QueueDispatch():
            return LineType.HOST_DISPATCHED
        case WithdrawDispatch():
            return LineType.HOST_DISPATCH_WITHDRAWN
        case _:
            assert_never(action)


def _fact_type(fact: AgentEvent) -> LineType:
    match fact:
        case ProbeResult():
            passed = fact.status is ProbeStatus.PASS
            return LineType.HOST_PROBE_PASSED if passed else LineType.HOST_PROBE_FAILED
        case DispatchAck():
            return LineType.HOST_ACKNOWLEDGED
        case ActivationStarted():
            return LineType.HOST_SWITCHING
        case ActivationCompleted():
            return LineType.HOST_SWITCHED
        case ActivationFailed():
            return LineType.HOST_SWITCH_FAILED
        case ActivationDeferred():
            return LineType.HOST_SWITCH_DEFERRED
        case ProbeTopologyDeclared() | ProbeObservedFirst():
            return LineType.HOST_PROBES_DECLARED
        case ProbeFailureFirst():
            return LineType.HOST_PROBE_FAILED
        case Failed():
            return LineType.HOST_FAILED
        case RollbackComplete():
            failed = fact.exit_code != 0
            return LineType.HOST_ROLLBACK_FAILED if failed else LineType.HOST_ROLLED_BACK
        case Converged():
            return LineType.HOST_CONVERGED
        case Regressed():
            return LineType.HOST_REGRESSED
        case Recalled():
            return LineType.HOST_RECALLED
        case Postponed():
            return LineType.HOST_POSTPONED
        case _:
            assert_never(fact)


def _event_type(event: RolloutEvent, asks_approval: AsksApproval) -> LineType:
    match event:
        case HostStateChanged():
            halts = event.to.is_failure and not event.is_tolerant
            return LineType.ROLLOUT_HALTED if halts else LineType.ROLLOUT_MOVED
        case WaveBroken():
            return LineType.ROLLOUT_HALTED
        case RolloutOpened():
            return LineType.ROLLOUT_OPENED
        case HostJoined():
            return LineType.ROLLOUT_MOVED
        case WaveAdvanced():
            began = event.from_wave != event.to_wave
            return LineType.WAVE_BEGAN if began else LineType.ROLLOUT_MOVED
        case RolloutTerminal():
            return LineType.ROLLOUT_COMPLETE
        case SuccessorOpened():
            return LineType.ROLLOUT_SUPERSEDED
        case RetentionExpired():
            return LineType.ROLLOUT_PRUNED
        case OperatorClearance():
            return LineType.ROLLOUT_CLEARED
        case RolloutAborted():
            return LineType.ROLLOUT_ABORTED
        case HostsLapsed():
            return LineType.ROLLOUT_HOSTS_LAPSED
        case StandingChanged():
            return LineType.ROLLOUT_STANDINGS_CHANGED
        case RetryOrdered():
            return LineType.ROLLOUT_RETRY_ORDERED
        case MembersChanged():
            return LineType.ROLLOUT_AMENDED
        case HostDrifted():
            return LineType.HOST_DRIFTED
        case DriftEnded():
            return LineType.HOST_DRIFT_ENDED
        case GuardsOpened():
            asks = asks_approval(event.rollout_id, event.wave)
            return LineType.WAVE_APPROVAL_NEEDED if asks else LineType.WAVE_GUARDS_ASKED
        case Verdict():
            return LineType.WAVE_VERDICT
        case _:
            assert_never(event)
