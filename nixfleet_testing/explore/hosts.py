"""What may happen on a host next: a switch succeeds or fails, a reboot, a probe; the agent reports it as a fact.

Each fact goes through `step` as `Local`, and the acts that follow are those that its effects order. An agent here
may report `Converged` at any time, also too early or on the wrong closure: `step` must refuse it.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import assert_never

from attrs import evolve, frozen

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    RollbackComplete,
)
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.effect import LocalFireRollbackTo, LocalFireSwitch
from nixfleet_state_machine.host.errors import InvariantViolation
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore.bounds import (
    ACKNOWLEDGED_AFTER,
    LIVED_AT,
    PROBE,
    Bounds,
)
from nixfleet_testing.explore.world import NAMELESS, Agent, AgentPast, Seats

Act = tuple[str, Agent]
"""What happened on a host, and the agent after it."""


@frozen
class Host:
    """An agent at work on one rollout."""

    bounds: Bounds
    machine: ReducerSet
    agent: Agent
    release: int
    life: AgentPast

    @property
    def record(self) -> HostRolloutState:
        return self.life.record

    @property
    def next_seq(self) -> int:
        return self.record.last_event_seq + 1

    def lived(self, *facts: AgentEvent, running: str | None = None) -> Agent:
        """Return the agent after `facts`. Raises: TransitionError."""
        life, intent = self.life, self.agent.intent
        for fact in facts:
            record, effects = self.machine.step(
                life.record, Local(fact), LIVED_AT, self.bounds.rollout_policy
            )
            life = evolve(life, records=(*life.records, record), facts=(*life.facts, fact))
            for effect in effects:
                if isinstance(effect, LocalFireSwitch | LocalFireRollbackTo):
                    intent = effect
        lives = _replaced(self.agent.lives, self.release, life)
        return Agent(lives, running or self.agent.running, intent)

    def ended(self) -> "Host":
        """Return the host with its act over."""
        return evolve(self, agent=evolve(self.agent, intent=None))


def taken(bounds: Bounds, machine: ReducerSet, agent: Agent, seats: Seats) -> Iterator[Act]:
    """Yield what comes of the host's asking for a dispatch: it takes the latest one that waits for it.

    Asking and acknowledging are one: whatever happens on the control plane between the two might as well have
    happened after both, for it hears of the acknowledgement later still.
    """
    waiting = [release for release, seat in enumerate(seats) if seat.is_queued]
    if not waiting or agent.intent is not None:
        return
    release = waiting[-1]
    offered, terms = seats[release].record, bounds.terms[release]
    assert offered.dispatched_at is not None, offered
    received_at = offered.dispatched_at + ACKNOWLEDGED_AFTER
    life = agent.lives[release]
    if life is not None:
        number = life.record.attempt + 1
        if life.is_closed or seats[release].attempt != number or not life.record.may_try_again:
            return  # It is acknowledged already.
        again = life.record.dispatched(offered.dispatched_at, offered.soak_due_at)
        life = evolve(life, records=(*life.records[:-1], again))
        host = Host(bounds, machine, agent, release, life)
        ack = DispatchAck(agent.running, received_at, host.next_seq, number)
        yield f"takes the dispatch of attempt {number} of {terms.rollout_id}", host.lived(ack)
        return
    pending = HostRolloutState.pending(
        terms.rollout_id,
        NAMELESS,
        terms.channel,
        offered.target_closure,
        offered.dispatched_at,
        offered.soak_due_at,
    )
    older = tuple(life and evolve(life, is_closed=True) for life in agent.lives)
    host = Host(bounds, machine, evolve(agent, lives=older), release, AgentPast((pending,)))
    acknowledged = host.lived(DispatchAck(agent.running, received_at, 1))
    yield f"takes the dispatch of {terms.rollout_id}", acknowledged


def acts(bounds: Bounds, machine: ReducerSet, agent: Agent) -> Iterator[Act]:
    """Yield what may happen next in the rollout that the host works on."""
    release = agent.open_release
    if release is None:
        return
    life = agent.lives[release]
    assert life is not None, agent
    host = Host(bounds, machine, agent, release, life)
    match agent.intent:
        case LocalFireSwitch():
            yield from _switching(host, agent.intent.target)
        case LocalFireRollbackTo():
            yield from _rolling_back(host, agent.intent.closure)
        case None:
            yield from _waiting(host)
        case _:
            assert_never(agent.intent)


def _switching(host: Host, target: str) -> Iterator[Act]:
    seq = host.next_seq
    if host.bounds.every_fact and host.record.activation_started_at is None:
        yield "starts the switch", host.lived(ActivationStarted(LIVED_AT, "directory", seq))
        return
    host = host.ended()
    completed = ActivationCompleted(target, 0, LIVED_AT, seq)
    yield "completes the switch", host.lived(completed, running=target)
    yield "fails to switch", host.lived(ActivationFailed(1, "boom", LIVED_AT, seq))
    if host.bounds.deferral:
        deferred = ActivationDeferred("kernel", LIVED_AT, seq)
        yield "defers the switch to a reboot", host.lived(deferred)


def _rolling_back(host: Host, closure: str) -> Iterator[Act]:
    seq, running = host.next_seq, host.agent.running
    host = host.ended()
    good = RollbackComplete(closure, 0, LIVED_AT, seq)
    yield f"rolls back to {closure}", host.lived(good, running=closure)
    yield "fails to roll back", host.lived(RollbackComplete(running, 1, LIVED_AT, seq))


def _waiting(host: Host) -> Iterator[Act]:
    match host.record.state:
        case HostState.DEFERRED:
            yield from _rebooting(host)
        case HostState.SOAKING if host.record.declared_probes is None:
            declared = ProbeTopologyDeclared(_probes(host.bounds), LIVED_AT, host.next_seq)
            yield "declares its probes", host.lived(declared)
        case HostState.SOAKING:
            yield from _probed(host)
            yield from _failing(host)
            yield from _claiming(host)
        case (
            HostState.PENDING
            | HostState.ACTIVATING
            | HostState.CONVERGED
            | HostState.FAILED
            | HostState.REVERTED
        ):
            pass
        case _:
            assert_never(host.record.state)


def _rebooting(host: Host) -> Iterator[Act]:
    seq, target = host.next_seq, host.record.target_closure
    completed = ActivationCompleted(target, 0, LIVED_AT, seq)
    yield f"reboots into {target}", host.lived(completed, running=target)
    failed = ActivationFailed(1, "it does not boot", LIVED_AT, seq)
    yield "reboots, and not into its target", host.lived(failed)


def _probed(host: Host) -> Iterator[Act]:
    # Each attempt begins with an acknowledgement, and with no results.
    facts = host.life.facts
    begun = max(at for at, fact in enumerate(facts) if isinstance(fact, DispatchAck))
    runs = sum(isinstance(fact, ProbeResult) for fact in facts[begun:])
    if runs < host.bounds.probe_runs:
        yield "passes its probe", host.lived(*_run(host, ProbeStatus.PASS))
        yield "fails its probe", host.lived(*_run(host, ProbeStatus.FAIL))


def _run(host: Host, status: ProbeStatus) -> Iterator[AgentEvent]:
    seq, record = host.next_seq, host.record
    if host.bounds.every_fact and PROBE not in record.probes:
        yield ProbeObservedFirst(PROBE, ProbeMode.ENFORCE, LIVED_AT, seq)
        seq += 1
    is_first_failure = status is ProbeStatus.FAIL and record.probe_failure_first_at is None
    if host.bounds.every_fact and is_first_failure:
        yield ProbeFailureFirst(PROBE, ProbeMode.ENFORCE, LIVED_AT, seq)
        seq += 1
    yield ProbeResult(PROBE, ProbeMode.ENFORCE, status, LIVED_AT, seq=seq)


def _failing(host: Host) -> Iterator[Act]:
    probe = host.record.probes.get(PROBE)
    if probe is not None and probe.status is ProbeStatus.FAIL:
        failed = Failed(LIVED_AT, 60, (PROBE,), host.bounds.policy, host.next_seq)
        yield "has failed its probe for too long", host.lived(failed)


def _claiming(host: Host) -> Iterator[Act]:
    record, seq = host.record, host.next_seq
    due, prior = soak_end_of(record), record.current_closure_at_dispatch
    assert due is not None, record
    assert prior is not None, record
    too_early = due - timedelta(seconds=1)
    for what, fact in (
        ("converges", Converged(due, host.agent.running, seq)),
        ("converges before its soak is due", Converged(too_early, host.agent.running, seq)),
        ("converges on the wrong closure", Converged(due, prior, seq)),
    ):
        try:
            converged = host.lived(fact)
        except InvariantViolation:
            continue
        yield what, converged


def _probes(bounds: Bounds) -> tuple[ProbeTopologyEntry, ...]:
    return (ProbeTopologyEntry(PROBE, "http", ProbeMode.ENFORCE),) if bounds.probe_runs else ()


def _replaced(
    lives: tuple[AgentPast | None, ...], release: int, life: AgentPast
) -> tuple[AgentPast | None, ...]:
    return (*lives[:release], life, *lives[release + 1 :])
