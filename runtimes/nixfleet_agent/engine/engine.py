"""The agent's engine: which handler takes an input, and what follows from a start. Sans I/O: time is an argument.

`handlers` decides, one module for each group of inputs; `reconcile` handles a control plane whose records differ
from the journal's.
Source: docs/spec/runtimes.md, Agent; docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

from datetime import datetime, timedelta
from typing import assert_never

from nixfleet_agent.engine.applier import apply
from nixfleet_agent.engine.handlers import offers, orders, samples, switches, ticks
from nixfleet_agent.engine.handlers.emission import not_rolling_back
from nixfleet_agent.engine.observation import Observed, at_start
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.reconcile import forget_disowned, note_refusal, replay, take_over
from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.engine.watching import note_resting
from nixfleet_agent.messages.inputs import (
    Action,
    Booted,
    CarryOut,
    ChecksLoaded,
    ChecksUnreadable,
    ClosureAwaited,
    DispatchOffered,
    Done,
    EventRejected,
    EventsAcknowledged,
    HomeLooked,
    Input,
    IntentBegun,
    KeepManifestsOf,
    LoadChecks,
    LockAnswered,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    Reply,
    RollbackEnded,
    RolloutDisowned,
    RolloutsRest,
    RunningClosureSeen,
    SwitchEnded,
    SwitchStarted,
    Tick,
    WakeSender,
    WarrantOffered,
)
from nixfleet_agent.messages.writes import MarkAcknowledged, Write
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.host.reducer import rehydration_effects
from nixfleet_state_machine.host.state import HostState

DISOWNED_RETENTION = timedelta(days=30)
"""How long facts are kept after their rollout was closed when the control plane says that it does not know it. Its word
alone deletes nothing: one that was taken over would erase what an honest one must hear later."""


class AgentEngine:
    """One host's state and every decision about it. Owned by one mutator."""

    def __init__(self, state: State, options: Options | None = None) -> None:
        self._state = state
        self._options = Options() if options is None else options
        state.undo.settle()

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        """Return the commit for `input`; the state has changed already."""
        mark = self._state.undo.mark()
        if self._state.last_tick_at.get() is None:
            self._state.last_tick_at.set(now)
        commit = CommitBuilder()
        try:
            reply = self._reply(commit, input, now)
        except BaseException:
            self._state.undo.undo_to(mark)
            raise
        return commit.built(reply)

    def settle(self) -> None:
        """Commit all changes so far: they are durable."""
        self._state.undo.settle()

    def roll_back(self) -> None:
        """Roll back to the state at the last `settle`."""
        self._state.undo.undo_to(0)

    def _reply(self, commit: CommitBuilder, input: Input, now: datetime) -> Reply:
        match input:
            case ProbeRan():
                samples.probe_ran(self._state, self._options, commit, input, now)
            case HomeLooked():
                samples.home_looked(self._state, self._options, commit, input, now)
            case Tick():
                ticks.tick(self._state, self._options, commit, input, now)
            case DispatchOffered():
                return offers.consider(self._state, self._options, commit, input, now)
            case LockAnswered():
                return offers.lock_answered(self._state, self._options, commit, input, now)
            case ClosureAwaited():
                switches.closure_awaited(self._state, commit, input)
            case IntentBegun():
                return switches.intent_begun(self._state, self._options, commit, input, now)
            case SwitchStarted():
                switches.switch_started(self._state, commit, input, now)
            case SwitchEnded():
                switches.switch_ended(self._state, commit, input, now)
            case RollbackEnded():
                switches.rollback_ended(self._state, commit, input, now)
            case ChecksLoaded():
                samples.checks_loaded(self._state, commit, input, now)
            case ChecksUnreadable():
                samples.checks_unreadable(self._state, commit, input, now)
            case EventsAcknowledged():
                commit.write(MarkAcknowledged(input.row_ids))
            case EventRejected():
                note_refusal(self._state, commit, input, now)
            case ReplayAsked():
                return replay(self._state, commit, input, now)
            case RunningClosureSeen():
                switches.note_running_closure(self._state, commit, input.running_closure, now)
            case Booted():
                self._boot(commit, input, now)
            case RecordBootstrapped():
                return take_over(self._state, commit, input, now)
            case RolloutDisowned():
                if input.rollout_id in self._state.expired(now, DISOWNED_RETENTION):
                    forget_disowned(self._state, commit, input.rollout_id)
            case WarrantOffered():
                return orders.obey_warrant(self._state, commit, input.verified.warrant, now)
            case RolloutsRest():
                note_resting(self._state, commit, input)
            case _:
                assert_never(input)
        return Done()

    def _boot(self, commit: CommitBuilder, input: Booted, now: datetime) -> None:
        self._state.booted_at.set(now)
        for rollout in self._state.open_rollouts():
            for effect in rehydration_effects(rollout.record):
                apply(effect, self._state, commit, now)
            left = _rollback_refused_of(rollout)
            if left is not None:
                reason = not_rolling_back(left)
                self._state.refuse_rollback(commit, rollout.record.rollout_id, reason)
            # The control plane's word on when the soak or the activation began is not evidence.
            seen = Observed() if rollout.taken_over_seq else at_start(rollout.record, now)
            if rollout.record.state is HostState.ACTIVATING:
                self._state.observed.set(rollout.record.rollout_id, seen)
            if rollout.record.state is HostState.SOAKING:
                self._state.observed.set(rollout.record.rollout_id, seen)
            if rollout.record.state is HostState.SOAKING or self._state.is_watched(rollout):
                commit.afterwards(
                    LoadChecks(rollout.record.rollout_id, rollout.record.target_closure)
                )
        for intent in tuple(self._state.intents.values()):
            if switches.is_undone(self._state, intent):
                self._state.remove_intent(commit, intent)
            else:
                commit.afterwards(CarryOut(intent))
        switches.note_running_closure(self._state, commit, input.running_closure, now)
        commit.afterwards(WakeSender())
        commit.afterwards(KeepManifestsOf(tuple(self._state.rollouts)))


def _rollback_refused_of(rollout: LocalRollout) -> str | None:
    """Return the closure that a failed host of a lost journal would have been rolled back to, `None` if none is due."""
    record = rollout.record
    is_due = (
        record.state is HostState.FAILED
        and record.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
        and rollout.taken_over_seq > 0
    )
    return record.current_closure_at_dispatch if is_due else None
