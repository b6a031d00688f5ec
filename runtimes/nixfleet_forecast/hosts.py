"""Hosts as a forecast takes them: each acknowledges, switches and converges after a drawn time, and none fails.

A host that is at a stage already goes on from there: what has passed counts. One whose enforce probes fail stays as it
is, and so does one that is at a stage of which too little was observed.
Source: docs/spec/forecast.md, Hosts.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias, assert_never

from nixfleet_control_plane.engine.state import HostKey
from nixfleet_control_plane.messages.inputs import HostEvents, Signed
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.draws import Drawn
from nixfleet_forecast.durations import Begun, Durations
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_runtime.transport import EventEarly, EventsOutcome
from nixfleet_state_machine.host.convergence import first_broken_rule, soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.deadlines import stage_of
from nixfleet_state_machine.rollout.event import Stage

_Step: TypeAlias = Callable[[HostKey, HostRolloutState], None]
_NOT_KNOWN = "not known"
_UNSIGNED = Signed(b"{}", None)


class DrawnHosts:
    """All hosts of a fleet in one run.

    durations: since when each host is at its stage, by the control plane's clock. on_converged: called with each host
    that converges. on_told: called with each host after it reported. speaking: the one that reports now.
    """

    def __init__(self, ahead: Ahead, draws: Drawn, durations: Durations) -> None:
        self._ahead = ahead
        self._draws = draws
        self._begun = durations.begun
        self.on_told: Callable[[HostKey], object] = lambda _: None
        self.speaking: HostKey | None = None
        self.on_converged: Callable[[RolloutId, str], object] = lambda _, __: None
        # How often each was dispatched: what was to come of an earlier dispatch does not come any more.
        self._turns: dict[HostKey, int] = {}

    def start(self) -> None:
        """Let every host go on from where it is, and do what it is told from now on."""
        self._ahead.on_queued = self.dispatched
        view = self._ahead.state.view
        for rollout_id in view.served_rollouts():
            for record in view.hosts_of(rollout_id):
                staged = stage_of(record, view.queued_since(rollout_id, record.hostname))
                if staged is not None:
                    self._go_on((rollout_id, record.hostname), *staged)

    def _go_on(self, key: HostKey, stage: Stage, since: datetime) -> None:
        begun = self._begun.get(key, Begun(stage, since))
        if begun.stage is stage and stage is not Stage.CONVERGENCE:
            since = begun.since
        match stage:
            case Stage.ACK:
                self._later(key, stage, since, self._acknowledge)
            case Stage.ACTIVATION:
                self._later(key, stage, since, self._switch)
            case Stage.REBOOT:
                self._later(key, stage, since, self._switch)
            case Stage.CONVERGENCE:
                self._soak(key)
            case _:
                assert_never(stage)

    def dispatched(self, dispatch: Dispatch) -> None:
        """Let a host do what it is told now."""
        for rollout_id in self._ahead.state.view.rollouts_with(dispatch.hostname):
            if rollout_id == dispatch.rollout_id:
                key = rollout_id, dispatch.hostname
                self._turns[key] = self._turns.get(key, 0) + 1
                self._later(key, Stage.ACK, self._ahead.now, self._acknowledge)

    def _later(self, key: HostKey, stage: Stage, since: datetime, act: _Step) -> None:
        """Let the host take its next step once the stage, which began at `since`, is over; never, if nothing is known
        of it."""
        passed = max(0.0, (self._ahead.now - since).total_seconds())
        seconds = self._draws.draw(stage, key[1], passed)
        if seconds is not None:
            turn = self._turns.get(key, 0)
            self._ahead.at(since + timedelta(seconds=seconds), partial(self._step, key, turn, act))

    def _step(self, key: HostKey, turn: int, act: _Step) -> None:
        record = self._ahead.state.view.host(*key)
        if record is not None and self._turns.get(key, 0) == turn:
            act(key, record)

    def _acknowledge(self, key: HostKey, record: HostRolloutState) -> None:
        view, now = self._ahead.state.view, self._ahead.now
        if not view.is_queued(*key):
            return  # It was withdrawn, and may be queued again.
        attempt = view.rollouts[key[0]].attempt_of(key[1])
        running = record.current_closure or _NOT_KNOWN
        numbered = None if attempt == 1 else attempt
        if self._say(key, DispatchAck(running, now, record.last_event_seq + 1, numbered)):
            self._later(key, Stage.ACTIVATION, now, self._switch)

    def _switch(self, key: HostKey, record: HostRolloutState) -> None:
        now, seq = self._ahead.now, record.last_event_seq
        match record.state:
            case HostState.ACTIVATING | HostState.DEFERRED:
                if self._say(key, ActivationCompleted(record.target_closure, 0, now, seq + 1)):
                    self._say(key, ProbeTopologyDeclared((), now, seq + 2))
                    self._soak(key)
            case HostState.FAILED:
                back = record.current_closure_at_dispatch or _NOT_KNOWN
                self._say(key, RollbackComplete(back, 0, now, seq + 1))
            case HostState.PENDING | HostState.SOAKING | HostState.CONVERGED | HostState.REVERTED:
                pass  # Something else became of it meanwhile.
            case _:
                assert_never(record.state)

    def _soak(self, key: HostKey) -> None:
        record = self._ahead.state.view.host(*key)
        if record is None:
            return
        due = soak_end_of(record) or self._ahead.now
        self._later(key, Stage.CONVERGENCE, due, self._converge)

    def _converge(self, key: HostKey, record: HostRolloutState) -> None:
        now = self._ahead.now
        if record.state is not HostState.SOAKING:
            return
        for passed in _passes(record, now):
            self._say(key, passed)
        record = self._ahead.state.view.host(*key) or record
        if first_broken_rule(record, record.target_closure, now) is None:
            converged = Converged(now, record.target_closure, record.last_event_seq + 1)
            if self._say(key, converged):
                self.on_converged(*key)

    def _say(self, key: HostKey, fact: AgentEvent) -> bool:
        """Report a fact; return whether it was taken. A convergence that cannot be true yet is said again."""
        rollout_id, hostname = key
        envelope = AgentEventEnvelope(hostname, rollout_id, fact)
        self.speaking = key
        outcome = self._ahead.tell(HostEvents(hostname, (envelope,), _UNSIGNED))
        self.speaking = None
        self.on_told(key)
        assert isinstance(outcome, EventsOutcome), outcome
        early = outcome.stopped_by
        if isinstance(early, EventEarly):
            again = self._ahead.now + timedelta(seconds=early.retry_after_seconds)
            turn = self._turns.get(key, 0)
            self._ahead.at(again, partial(self._step, key, turn, self._converge))
        return early is None


def _passes(record: HostRolloutState, now: datetime) -> Iterator[ProbeResult]:
    """Yield a pass of each declared enforce probe that has not reported yet."""
    missing = (
        each.probe_name
        for each in record.declared_probes or ()
        if each.mode is ProbeMode.ENFORCE and each.probe_name not in record.probes
    )
    for seq, name in enumerate(missing, start=record.last_event_seq + 1):
        yield ProbeResult(name, ProbeMode.ENFORCE, ProbeStatus.PASS, now, seq=seq)
