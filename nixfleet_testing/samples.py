"""One sample of every host, fact, rollout and event that a reducer treats differently.

The golden listings, our own vectors and the tests of the reducers are made of them. Each record is reached by facts or
events from a fresh one. Times are fixed: what is recorded or listed is the same bytes every time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    Postponed,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.replay import replay_host, replay_rollout
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
    Stage,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing

BEFORE = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
SOAK_DUE = BEFORE + timedelta(minutes=5)
AT = BEFORE + timedelta(minutes=10)
NOW = AT + timedelta(seconds=1)
ROLLOUT = RolloutId("stable@a1b2")
SUCCESSOR = RolloutId("stable@c3d4")


def pending() -> HostRolloutState:
    """Return a host that has a dispatch in the queue and has said nothing."""
    return HostRolloutState.pending(ROLLOUT, "web-01", "stable", "target", BEFORE, SOAK_DUE)


def hosts() -> Mapping[str, HostRolloutState]:
    """Return a host in every state; in several where what it went through decides."""
    activating = after(pending(), DispatchAck("prior", BEFORE, 0))
    undeclared = after(activating, ActivationCompleted("target", 0, BEFORE, 0))
    silent = after(undeclared, _topology(BEFORE))
    soaking = after(silent, _result(ProbeStatus.PASS, BEFORE))
    failing = after(soaking, *_failing(BEFORE))
    failed = after(activating, ActivationFailed(1, "boom", BEFORE, 0))
    again = after(failed, DispatchAck("prior", BEFORE, 0, attempt=2))
    return {
        "pending": pending(),
        "activating": activating,
        "activating, started": after(activating, ActivationStarted(BEFORE, "systemd-run", 0)),
        "deferred": after(activating, ActivationDeferred("kernel", BEFORE, 0)),
        "soaking, probes not declared": undeclared,
        "soaking, no probes": after(undeclared, ProbeTopologyDeclared((), BEFORE, 0)),
        "soaking, probe silent": silent,
        "soaking, probe passing": soaking,
        "soaking, probe failing": failing,
        "soaking, another closure": after(activating, ActivationCompleted("other", 0, BEFORE, 0)),
        "converged": after(soaking, Converged(SOAK_DUE, "target", 0)),
        "failed by activation": failed,
        "failed by probes": after(failing, _failed(OnHealthFailure.HALT, BEFORE)),
        "failed, rolling back": after(failing, _failed(OnHealthFailure.ROLLBACK_AND_HALT, BEFORE)),
        "reverted": after(failed, RollbackComplete("prior", 0, BEFORE, 0)),
        "activating again": again,
        "soaking again": after(
            again,
            ActivationCompleted("target", 0, BEFORE, 0),
            _topology(BEFORE),
            _result(ProbeStatus.PASS, BEFORE),
        ),
    }


def facts(at: datetime = AT) -> Mapping[str, AgentEvent]:
    """Return every kind of fact, in the variants that are told apart; `seq` is for `next_of` to set."""
    return {
        "DispatchAck": DispatchAck("prior", at, 0),
        **{
            f"DispatchAck, attempt {attempt}": DispatchAck("prior", at, 0, attempt)
            for attempt in (2, 3)
        },
        "ActivationStarted": ActivationStarted(at, "systemd-run", 0),
        "ActivationCompleted": ActivationCompleted("target", 0, at, 0),
        "ActivationCompleted, another closure": ActivationCompleted("other", 0, at, 0),
        "ActivationCompleted, exit code 4": ActivationCompleted("target", 4, at, 0),
        "ActivationFailed": ActivationFailed(1, "boom", at, 0),
        "ActivationFailed, exit code -9": ActivationFailed(-9, "", at, 0),
        "ActivationDeferred": ActivationDeferred("kernel", at, 0),
        "ProbeTopologyDeclared": _topology(at),
        "ProbeTopologyDeclared, none": ProbeTopologyDeclared((), at, 0),
        **{
            f"ProbeObservedFirst, {mode}": ProbeObservedFirst("nginx", mode, at, 0)
            for mode in ProbeMode
        },
        **{
            f"ProbeResult, {mode}, {status}": _result(status, at, mode)
            for mode in ProbeMode
            for status in ProbeStatus
        },
        "ProbeResult, of controls": evolve(_result(ProbeStatus.FAIL, at), sub_results=_CONTROLS),
        "ProbeFailureFirst": ProbeFailureFirst("nginx", ProbeMode.ENFORCE, at, 0),
        **{f"Failed, {policy}": _failed(policy, at) for policy in OnHealthFailure},
        **{
            f"Regressed, {policy}": Regressed(at, 60, ("nginx",), policy, 0)
            for policy in OnHealthFailure
        },
        "Recalled": Recalled("order-1", at, 0),
        "Postponed": Postponed(at, "a call is in progress", at + timedelta(hours=1), 0),
        "Postponed, over": Postponed(at, "no call is in progress", at, 0),
        "RollbackComplete": RollbackComplete("prior", 0, at, 0),
        "RollbackComplete, exit code 1": RollbackComplete("prior", 1, at, 0),
        "Converged": Converged(at, "target", 0),
        "Converged, another closure": Converged(at, "other", 0),
        "Converged, before soak is due": Converged(BEFORE, "target", 0),
    }


def fact_histories() -> Mapping[str, tuple[AgentEvent, ...]]:
    """Return whole histories of a host; facts that are refused on the way are part of them."""
    started = (DispatchAck("prior", BEFORE, 0), ActivationStarted(BEFORE, "systemd-run", 0))
    soaking = (*started, ActivationCompleted("target", 0, BEFORE, 0), _topology(BEFORE))
    observed = (*soaking, ProbeObservedFirst("nginx", ProbeMode.ENFORCE, BEFORE, 0))
    passing = _result(ProbeStatus.PASS, AT)
    converged = Converged(AT, "target", 0)
    undone = RollbackComplete("prior", 0, AT, 0)
    gave_up = (*observed, *_failing(BEFORE), _failed(OnHealthFailure.ROLLBACK_AND_HALT, AT))
    return {
        "converges": (*observed, passing, converged),
        "converges too early, then in time": (
            *observed,
            Converged(BEFORE, "target", 0),
            passing,
            Converged(BEFORE, "target", 0),
            converged,
        ),
        "fails a probe and recovers": (*observed, *_failing(BEFORE), converged, passing, converged),
        "fails its probes and goes back": (*gave_up, undone, passing),
        "fails to go back, then does": (*gave_up, evolve(undone, exit_code=1), undone),
        "fails to activate": (*started, ActivationFailed(1, "boom", AT, 0), undone),
        "defers, then boots into it": (
            *started,
            ActivationDeferred("kernel", BEFORE, 0),
            ActivationCompleted("target", 0, AT, 0),
            ProbeTopologyDeclared((), AT, 0),
            converged,
        ),
        "defers, then fails": (
            *started,
            ActivationDeferred("kernel", BEFORE, 0),
            ActivationFailed(1, "boom", AT, 0),
            undone,
        ),
        "fails, tries again and converges": (
            *started,
            ActivationFailed(1, "boom", BEFORE, 0),
            DispatchAck("prior", BEFORE, 0),
            DispatchAck("prior", BEFORE, 0, attempt=2),
            ActivationCompleted("target", 0, BEFORE, 0),
            ProbeTopologyDeclared((), BEFORE, 0),
            converged,
        ),
        "goes back, and tries again when it is back": (
            *gave_up,
            DispatchAck("prior", AT, 0, attempt=2),
            undone,
            DispatchAck("prior", AT, 0, attempt=2),
        ),
        "converges, regresses and goes back": (
            *observed,
            passing,
            converged,
            Regressed(AT, 60, ("nginx",), OnHealthFailure.ROLLBACK_AND_HALT, 0),
            undone,
        ),
        "says everything twice": tuple(fact for fact in observed for _ in range(2)),
    }


def rollouts() -> Mapping[str, RolloutRecord]:
    """Return a rollout in every state; in several where what it went through decides."""
    opening = open_rollout(RolloutOpened(ROLLOUT, "stable", "a1b2", BEFORE), 1, ())
    active = then(opening, HostJoined(ROLLOUT, "web-01", 0, BEFORE))
    second_wave = then(active, WaveAdvanced(ROLLOUT, 0, 1, BEFORE))
    failed = then(active, host_now(HostState.FAILED, BEFORE))
    terminal = then(active, RolloutTerminal(ROLLOUT, BEFORE))
    away = then(active, _lapsed(Standing.AWAY, BEFORE))
    return {
        "opening": opening,
        "opening, guarded": open_rollout(
            RolloutOpened(ROLLOUT, "stable", "a1b2", BEFORE), 1, (), is_guarded=True
        ),
        "active, guards asked": then(active, GuardsOpened(ROLLOUT, 1, BEFORE)),
        "active": active,
        "active, wave 1": second_wave,
        "active, cleared": then(failed, _clearance("web-01", BEFORE)),
        "active, with one away": away,
        "active, with one that tries again": then(active, _retry("web-01", 2, BEFORE)),
        "converging": then(second_wave, WaveAdvanced(ROLLOUT, 1, 1, BEFORE)),
        "terminal": terminal,
        "reverted": then(active, host_now(HostState.REVERTED, BEFORE)),
        "failed": failed,
        "failed by a wave": then(active, _broken(BEFORE)),
        "aborted": then(terminal, _abort(BEFORE)),
        "superseded": then(active, SuccessorOpened(ROLLOUT, SUCCESSOR, BEFORE)),
        "pruned": then(terminal, RetentionExpired(ROLLOUT, BEFORE)),
    }


def rollout_events() -> Mapping[str, RolloutEvent]:
    """Return every kind of event, in the variants that are told apart."""
    return {
        "RolloutOpened": RolloutOpened(ROLLOUT, "stable", "a1b2", AT),
        "HostJoined": HostJoined(ROLLOUT, "web-02", 2, AT),
        **{f"HostStateChanged, to {state}": host_now(state, AT) for state in HostState},
        **{
            f"WaveAdvanced, {wave} to {next_wave}": WaveAdvanced(ROLLOUT, wave, next_wave, AT)
            for wave in (0, 1)
            for next_wave in (0, 1, 2)
        },
        "RolloutTerminal": RolloutTerminal(ROLLOUT, AT),
        "SuccessorOpened": SuccessorOpened(ROLLOUT, SUCCESSOR, AT),
        "RetentionExpired": RetentionExpired(ROLLOUT, AT),
        "OperatorClearance": _clearance("web-02", AT),
        "OperatorClearance, nobody excused": OperatorClearance(
            ROLLOUT, "alice", "disk replaced", frozenset(), AT
        ),
        "HostStateChanged, to Failed, tolerated": host_now(HostState.FAILED, AT, is_tolerant=True),
        "HostStateChanged, to Reverted, tolerated": host_now(
            HostState.REVERTED, AT, is_tolerant=True
        ),
        "WaveBroken": _broken(AT),
        "HostsLapsed, to away": _lapsed(Standing.AWAY, AT),
        "HostsLapsed, to lapsed": _lapsed(Standing.LAPSED, AT),
        **{
            f"StandingChanged, to {standing}": StandingChanged(
                ROLLOUT, ("web-01", "web-02"), standing, "alice: in repair", AT
            )
            for standing in Standing
        },
        "RetryOrdered, attempt 2": _retry("web-02", 2, AT),
        "RetryOrdered, attempt 3": _retry("web-01", 3, AT),
        "MembersChanged": MembersChanged(
            ROLLOUT, ("web-03", "web-04"), ("web-01",), ("web-04",), AT
        ),
        "HostDrifted": HostDrifted(ROLLOUT, "web-01", "by-hand", AT),
        "DriftEnded": DriftEnded(ROLLOUT, "web-01", AT),
        "RolloutAborted": _abort(AT),
        "GuardsOpened": GuardsOpened(ROLLOUT, 1, AT),
        "GuardsOpened, of the first wave": GuardsOpened(ROLLOUT, 0, AT),
        **{
            f"Verdict, {outcome}": Verdict(
                ROLLOUT, 2, "errors", "prometheus", outcome, "0.02 < 0.01", AT, "0.02"
            )
            for outcome in Outcome
        },
        "Verdict, of a wave that began": Verdict(
            ROLLOUT, 0, "bake", "time", Outcome.PASS, "5 minutes have passed", AT
        ),
        "RolloutTerminal, of another rollout": RolloutTerminal(SUCCESSOR, AT),
    }


def event_histories() -> Mapping[str, tuple[RolloutEvent, ...]]:
    """Return whole histories of a rollout; events that are refused on the way are part of them."""
    joined = (HostJoined(ROLLOUT, "web-01", 0, BEFORE), HostJoined(ROLLOUT, "web-02", 1, BEFORE))
    promoted = (*joined, host_now(HostState.CONVERGED, BEFORE), WaveAdvanced(ROLLOUT, 0, 1, BEFORE))
    done = (*promoted, WaveAdvanced(ROLLOUT, 1, 1, AT), RolloutTerminal(ROLLOUT, AT))
    halted = (*joined, host_now(HostState.FAILED, BEFORE))
    return {
        "ends and is pruned": (*done, RetentionExpired(ROLLOUT, AT), *joined),
        "is superseded": (*promoted, SuccessorOpened(ROLLOUT, SUCCESSOR, AT), *done),
        "fails, then its host goes back": (*halted, host_now(HostState.REVERTED, AT), *done),
        "is cleared twice": (*halted, _clearance("web-01", AT), *halted, _clearance("web-02", AT)),
        "is broken by a wave, then its host goes back": (
            *joined,
            host_now(HostState.FAILED, BEFORE, is_tolerant=True),
            _broken(BEFORE),
            host_now(HostState.REVERTED, AT, is_tolerant=True),
            _clearance("web-01", AT),
        ),
        "goes on without one, which comes late": (
            *joined,
            _lapsed(Standing.AWAY, BEFORE),
            WaveAdvanced(ROLLOUT, 0, 1, BEFORE),
            RolloutTerminal(ROLLOUT, AT),
            StandingChanged(ROLLOUT, ("web-01",), Standing.LATE, "it reported again", AT),
            RetentionExpired(ROLLOUT, AT),
        ),
        "lets one try again": (
            *joined,
            host_now(HostState.FAILED, BEFORE, is_tolerant=True),
            _retry("web-01", 2, AT),
            host_now(HostState.CONVERGED, AT),
            RolloutTerminal(ROLLOUT, AT),
        ),
        "has other members": (
            *joined,
            MembersChanged(ROLLOUT, ("web-03", "web-04"), ("web-02",), ("web-04",), AT),
            RolloutTerminal(ROLLOUT, AT),
        ),
        "drifts, and is put right": (
            *joined,
            host_now(HostState.CONVERGED, BEFORE),
            HostDrifted(ROLLOUT, "web-01", "by-hand", BEFORE),
            HostDrifted(ROLLOUT, "web-01", "by-hand", AT),
            _retry("web-01", 2, AT),
            DriftEnded(ROLLOUT, "web-01", AT),
            SuccessorOpened(ROLLOUT, SUCCESSOR, AT),
        ),
        "is aborted, and its hosts go on": (
            *joined,
            _abort(BEFORE),
            host_now(HostState.FAILED, AT),
            host_now(HostState.REVERTED, AT),
            _clearance("web-01", AT),
            _abort(AT),
            SuccessorOpened(ROLLOUT, SUCCESSOR, AT),
        ),
        "is told of another": (
            *joined,
            RolloutTerminal(SUCCESSOR, AT),
            RolloutTerminal(ROLLOUT, AT),
        ),
    }


def after(record: HostRolloutState, *happened: AgentEvent) -> HostRolloutState:
    """Return `record` after the facts in `happened`, each with the next `seq`."""
    for fact in happened:
        record = replay_host(record, [(next_of(record, fact), NOW)], RolloutPolicy())
    return record


def next_of(record: HostRolloutState, fact: AgentEvent) -> AgentEvent:
    """Return `fact` with the `seq` that `record` takes next."""
    return evolve(fact, seq=record.last_event_seq + 1)


def then(record: RolloutRecord, *happened: RolloutEvent) -> RolloutRecord:
    """Return `record` after the events in `happened`."""
    return replay_rollout(record, [(event, NOW) for event in happened])


def host_now(state: HostState, at: datetime, is_tolerant: bool = False) -> HostStateChanged:
    """Return the event that web-01 went from Soaking to `state`."""
    return HostStateChanged(ROLLOUT, "web-01", HostState.SOAKING, state, at, is_tolerant)


_CONTROLS = (
    ProbeSubResult("AC-2", ProbeStatus.PASS, "nis2"),
    ProbeSubResult(
        "AC-3", ProbeStatus.FAIL, "nis2", "21(2)", ProbeMode.OBSERVE, "accepted until June"
    ),
)


def _topology(at: datetime) -> ProbeTopologyDeclared:
    return ProbeTopologyDeclared((ProbeTopologyEntry("nginx", "http", ProbeMode.ENFORCE),), at, 0)


def _result(status: ProbeStatus, at: datetime, mode: ProbeMode = ProbeMode.ENFORCE) -> ProbeResult:
    reason = "HTTP 503" if status is ProbeStatus.FAIL else None
    return ProbeResult("nginx", mode, status, at, reason, seq=0)


def _failing(at: datetime) -> tuple[AgentEvent, ...]:
    first = ProbeFailureFirst("nginx", ProbeMode.ENFORCE, at, 0)
    return first, _result(ProbeStatus.FAIL, at)


def _failed(policy: OnHealthFailure, at: datetime) -> Failed:
    return Failed(at, 60, ("nginx",), policy, 0)


def _clearance(host: str, at: datetime) -> OperatorClearance:
    return OperatorClearance(ROLLOUT, "alice", "disk replaced", frozenset({host}), at)


def _abort(at: datetime) -> RolloutAborted:
    return RolloutAborted(ROLLOUT, "alice", "it eats disks", at)


def _broken(at: datetime) -> WaveBroken:
    return WaveBroken(ROLLOUT, 0, failed=2, allowed=1, absent=0, at=at)


def _lapsed(standing: Standing, at: datetime) -> HostsLapsed:
    return HostsLapsed(ROLLOUT, ("web-01",), Stage.ACTIVATION, standing, at)


def _retry(host: str, attempt: int, at: datetime) -> RetryOrdered:
    return RetryOrdered(ROLLOUT, (host,), attempt, "its back-off is over", at)
