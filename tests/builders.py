"""Hosts, rollouts and facts with fixed, readable values: what a test does not say does not matter to it.

Seconds are counted from `T0`. A host's records are made by facts alone, numbered from 1; a fact that a test brings
comes later than all of them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

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
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine import (
    AgentEffect,
    ControlPlaneEffect,
    HostRolloutState,
    HostState,
    Local,
    Remote,
    RolloutEffect,
    RolloutEvent,
    RolloutRecord,
    open_rollout,
    step,
    step_rollout,
)
from nixfleet_state_machine.host.effect import EmitMetric, RecordTransition
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    HostStateChanged,
    OperatorClearance,
    RetentionExpired,
    RolloutOpened,
    RolloutTerminal,
    SuccessorOpened,
    WaveAdvanced,
)

T = TypeVar("T")

T0 = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
HOST = "web-01"
CHANNEL = "stable"
ROLLOUT = RolloutId("stable@a1b2")
SUCCESSOR = RolloutId("stable@c3d4")
TARGET = "k2f-nixos-web-01-26.05"
PRIOR = "9xq-nixos-web-01-25.11"
OTHER = "0aa-nixos-web-01-other"
SOAK_DUE = 300
SOAK_END = SOAK_DUE + 30
"""The window that was dispatched, from the activation on: 30 s after the dispatch."""
LATER = 50

HALT = RolloutPolicy(on_health_failure=OnHealthFailure.HALT)
ROLLBACK = RolloutPolicy(on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


# --- facts -----------------------------------------------------------------------------------


def dispatch_ack(seconds: int = 10, seq: int = LATER) -> DispatchAck:
    return DispatchAck(PRIOR, at(seconds), seq)


def activation_started(seconds: int = 20) -> ActivationStarted:
    return ActivationStarted(at(seconds), "systemd-run", LATER)


def activation_completed(seconds: int = 30, observed: str = TARGET) -> ActivationCompleted:
    return ActivationCompleted(observed, 0, at(seconds), LATER)


def activation_deferred(seconds: int = 30, component: str = "kernel") -> ActivationDeferred:
    return ActivationDeferred(component, at(seconds), LATER)


def activation_failed(seconds: int = 30) -> ActivationFailed:
    return ActivationFailed(4, "unit nginx.service failed", at(seconds), LATER)


def topology(seconds: int = 35, **modes: ProbeMode) -> ProbeTopologyDeclared:
    probes = tuple(ProbeTopologyEntry(name, "http", mode) for name, mode in modes.items())
    return ProbeTopologyDeclared(probes, at(seconds), LATER)


def observed_first(seconds: int = 40) -> ProbeObservedFirst:
    return ProbeObservedFirst("nginx", ProbeMode.ENFORCE, at(seconds), LATER)


def probe_pass(
    seconds: int = 40, name: str = "nginx", mode: ProbeMode = ProbeMode.ENFORCE
) -> ProbeResult:
    return ProbeResult(name, mode, ProbeStatus.PASS, at(seconds), seq=LATER)


def probe_fail(
    seconds: int = 40, name: str = "nginx", mode: ProbeMode = ProbeMode.ENFORCE
) -> ProbeResult:
    return ProbeResult(name, mode, ProbeStatus.FAIL, at(seconds), "HTTP 503", seq=LATER)


def failure_first(seconds: int = 45) -> ProbeFailureFirst:
    return ProbeFailureFirst("nginx", ProbeMode.ENFORCE, at(seconds), LATER)


def failed(seconds: int = 200, policy: RolloutPolicy = HALT) -> Failed:
    return Failed(at(seconds), 60, ("nginx",), policy.on_health_failure, LATER)


def rollback_complete(
    seconds: int = 250, exit_code: int = 0, closure: str = PRIOR
) -> RollbackComplete:
    return RollbackComplete(closure, exit_code, at(seconds), LATER)


def converged(seconds: int = SOAK_END, closure: str = TARGET) -> Converged:
    return Converged(at(seconds), closure, LATER)


ONE_OF_EACH: tuple[AgentEvent, ...] = (
    dispatch_ack(),
    activation_started(),
    activation_completed(),
    activation_failed(),
    activation_deferred(),
    topology(),
    observed_first(),
    probe_pass(),
    failure_first(),
    failed(),
    rollback_complete(),
    converged(),
)


def all_facts_but(*kinds: type[AgentEvent]) -> list[AgentEvent]:
    """One fact of each kind that is not among `kinds`."""
    return [fact for fact in ONE_OF_EACH if not isinstance(fact, kinds)]


# --- hosts -----------------------------------------------------------------------------------


def lived(
    record: HostRolloutState, fact: AgentEvent, policy: RolloutPolicy = HALT
) -> tuple[HostRolloutState, list[AgentEffect]]:
    """What an agent makes of a fact: the record and the effects, without metrics."""
    after, effects = step(record, Local(fact), at(0), policy)
    return after, [effect for effect in effects if not isinstance(effect, EmitMetric)]


def told(
    record: HostRolloutState, fact: AgentEvent, policy: RolloutPolicy = HALT
) -> tuple[HostRolloutState, list[ControlPlaneEffect]]:
    """What a control plane makes of a fact: the record and the effects, without metrics."""
    after, effects = step(record, Remote(fact), at(0), policy)
    return after, [effect for effect in effects if not isinstance(effect, EmitMetric)]


def metrics(record: HostRolloutState, fact: AgentEvent) -> list[EmitMetric]:
    """The metrics that a fact yields, on either side."""
    _, effects = step(record, Remote(fact), at(0), HALT)
    return only(EmitMetric, effects)


def only(kind: type[T], effects: Iterable[object]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]


def moved(from_: HostState, to: HostState, seconds: int) -> RecordTransition:
    return RecordTransition(HOST, ROLLOUT, from_, to, at(seconds))


def pending_host() -> HostRolloutState:
    return HostRolloutState.pending(ROLLOUT, HOST, CHANNEL, TARGET, T0, at(SOAK_DUE))


def activating_host() -> HostRolloutState:
    return _after(pending_host(), dispatch_ack())


def deferred_host() -> HostRolloutState:
    return _after(activating_host(), activation_deferred())


def soaking_host(*facts: AgentEvent) -> HostRolloutState:
    """A host that activated its target 30 seconds in, and `facts` since."""
    return _after(activating_host(), activation_completed(), *facts)


def converged_host() -> HostRolloutState:
    return _after(soaking_host(probe_pass()), converged())


def failed_host() -> HostRolloutState:
    return _after(soaking_host(), failed(policy=ROLLBACK))


def reverted_host() -> HostRolloutState:
    return _after(failed_host(), rollback_complete())


def _after(record: HostRolloutState, *facts: AgentEvent) -> HostRolloutState:
    for fact in facts:
        record, _ = told(record, evolve(fact, seq=record.last_event_seq + 1))
    return record


# --- rollouts --------------------------------------------------------------------------------


def rolled(record: RolloutRecord, event: RolloutEvent) -> tuple[RolloutRecord, list[RolloutEffect]]:
    """What comes of an event: the record and the effects."""
    after, effects = step_rollout(record, event, at(0))
    return after, list(effects)


def opened(rollout_id: RolloutId = ROLLOUT, seconds: int = 0) -> RolloutOpened:
    return RolloutOpened(rollout_id, rollout_id.channel, rollout_id.channel_ref, at(seconds))


def joined(seconds: int = 10, wave: int = 0) -> HostJoined:
    return HostJoined(ROLLOUT, HOST, wave, at(seconds))


def host_now(to: HostState, seconds: int = 60) -> HostStateChanged:
    return HostStateChanged(ROLLOUT, HOST, HostState.SOAKING, to, at(seconds))


def wave_advanced(from_wave: int, to_wave: int, seconds: int = 50) -> WaveAdvanced:
    return WaveAdvanced(ROLLOUT, from_wave, to_wave, at(seconds))


def all_done(seconds: int = 400) -> RolloutTerminal:
    return RolloutTerminal(ROLLOUT, at(seconds))


def successor_opened(seconds: int = 500) -> SuccessorOpened:
    return SuccessorOpened(ROLLOUT, SUCCESSOR, at(seconds))


def retention_expired(seconds: int = 9_000) -> RetentionExpired:
    return RetentionExpired(ROLLOUT, at(seconds))


def clearance(*excused: str, seconds: int = 600) -> OperatorClearance:
    return OperatorClearance(ROLLOUT, "alice", "disk replaced", frozenset(excused), at(seconds))


ONE_OF_EACH_ROLLOUT_EVENT: tuple[RolloutEvent, ...] = (
    opened(),
    joined(),
    host_now(HostState.CONVERGED),
    wave_advanced(0, 1),
    all_done(),
    successor_opened(),
    retention_expired(),
    clearance(HOST),
)


def all_rollout_events_but(*kinds: type[RolloutEvent]) -> list[RolloutEvent]:
    """One event of each kind that is not among `kinds`."""
    return [event for event in ONE_OF_EACH_ROLLOUT_EVENT if not isinstance(event, kinds)]


def opening_rollout() -> RolloutRecord:
    return open_rollout(opened(), 41, ())


def active_rollout(wave: int = 0) -> RolloutRecord:
    record = _then(opening_rollout(), joined())
    return _then(record, wave_advanced(0, wave)) if wave else record


def converging_rollout() -> RolloutRecord:
    return _then(active_rollout(), wave_advanced(0, 0))


def terminal_rollout() -> RolloutRecord:
    return _then(converging_rollout(), all_done())


def failed_rollout() -> RolloutRecord:
    return _then(active_rollout(), host_now(HostState.FAILED))


def reverted_rollout() -> RolloutRecord:
    return _then(active_rollout(), host_now(HostState.REVERTED))


def superseded_rollout() -> RolloutRecord:
    return _then(active_rollout(), successor_opened())


def pruned_rollout() -> RolloutRecord:
    return _then(superseded_rollout(), retention_expired())


def _then(record: RolloutRecord, event: RolloutEvent) -> RolloutRecord:
    return rolled(record, event)[0]
