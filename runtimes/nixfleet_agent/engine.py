"""The agent's engine: which facts follow from an input. Sans I/O: it is told the time and what was seen.

It numbers the facts, runs them through `step` as `Local`, and leaves the effects to the applier. It acts on
the signed manifest, never on the dispatch; whether to roll back it decides from the manifest's policy.
Source: design 7, Agent; design 6, The agent trusts the manifest.
"""

from datetime import datetime, timedelta
from typing import assert_never

from attrs import evolve

from nixfleet_agent.activator import (
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchOutcome,
)
from nixfleet_agent.applier import apply
from nixfleet_agent.inputs import (
    Action,
    Booted,
    CarryOut,
    ChecksLoaded,
    ChecksUnreadable,
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    EventRejected,
    EventsAcknowledged,
    Input,
    Intent,
    IntentKind,
    KeepManifestsOf,
    LoadChecks,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    Reply,
    RollbackEnded,
    RunningClosureSeen,
    StartProbes,
    StopProbes,
    SwitchEnded,
    SwitchStarted,
    Tick,
    WakeSender,
)
from nixfleet_agent.probing import (
    UNREADABLE_CHECKS,
    FactOf,
    facts_of_probe,
    sustained_failure,
    topology_of,
    unreadable_facts,
)
from nixfleet_agent.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.writes import MarkAcknowledged, MarkRefused, MarkUnsent, Write
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    Converged,
    DispatchAck,
    OnHealthFailure,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.engine import Commit
from nixfleet_state_machine.host.convergence import first_broken_rule
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.reducer import rehydration_effects, step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RETENTION_DEFAULT

FAILURE_THRESHOLD_DEFAULT = timedelta(seconds=60)


class AgentEngine:
    """One host's state and every decision about it. Owned by one mutator.

    failure_threshold: how long an enforce probe must fail without a pass before the host is Failed.
    retention: how long a closed rollout's journal is kept, for a control plane that must hear it again.
    """

    def __init__(
        self,
        state: State,
        *,
        failure_threshold: timedelta = FAILURE_THRESHOLD_DEFAULT,
        retention: timedelta = RETENTION_DEFAULT,
    ) -> None:
        self._state = state
        self._failure_threshold = failure_threshold
        self._retention = retention
        state.undo.settle()

    def handle(self, input: Input, now: datetime) -> Commit[Write, Reply, Action]:
        """Return what `input` comes to; the state is already as it is afterwards."""
        mark = self._state.undo.mark()
        commit = CommitBuilder()
        try:
            reply = self._reply(commit, input, now)
        except BaseException:
            self._state.undo.undo_to(mark)
            raise
        return commit.built(reply)

    def settle(self) -> None:
        """Everything handled so far is durable."""
        self._state.undo.settle()

    def take_back(self) -> None:
        """Nothing handled since the last `settle` is durable: be as then."""
        self._state.undo.undo_to(0)

    def _reply(self, commit: CommitBuilder, input: Input, now: datetime) -> Reply:
        match input:
            case ProbeRan():
                self._probe_ran(commit, input, now)
            case Tick():
                self._tick(commit, now)
            case DispatchOffered():
                return self._consider(commit, input, now)
            case SwitchStarted():
                self._switch_started(commit, input, now)
            case SwitchEnded():
                self._switch_ended(commit, input, now)
            case RollbackEnded():
                self._rollback_ended(commit, input, now)
            case ChecksLoaded():
                self._checks_loaded(commit, input, now)
            case ChecksUnreadable():
                self._checks_unreadable(commit, input, now)
            case EventsAcknowledged():
                commit.write(MarkAcknowledged(input.row_ids))
            case EventRejected():
                commit.write(MarkRefused(input.row_id, input.refusal.reason))
            case ReplayAsked():
                self._replay(commit, input)
            case RunningClosureSeen():
                self._reboot_may_have_ended_deferral(commit, input.running_closure, now)
            case Booted():
                self._boot(commit, input, now)
            case RecordBootstrapped():
                self._bootstrap(commit, input, now)
            case _:
                assert_never(input)
        return Done()

    # From dispatch to soak.

    def _consider(self, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> Reply:
        refusal = self._objection(offer)
        if refusal is not None:
            return DispatchRefused(refusal)
        rollout_id = offer.manifest.value.rollout_id
        if rollout_id in self._state.rollouts:
            # It is acknowledged; what the journal says has yet to reach the control plane.
            commit.afterwards(WakeSender())
            return DispatchTaken()
        if self._state.intents:
            return DispatchPostponed()
        for older in self._open_rollouts():
            self._close(commit, older, now)
        self._open(commit, offer)
        self._emit(
            commit, rollout_id, lambda seq: DispatchAck(offer.running_closure, now, seq), now
        )
        return DispatchTaken()

    def _objection(self, offer: DispatchOffered) -> str | None:
        """Why the dispatch is not what the manifest says."""
        dispatch, manifest = offer.dispatch, offer.manifest.value
        if dispatch.hostname != self._state.hostname:
            return (
                f"expected a dispatch for {self._state.hostname}, found one for {dispatch.hostname}"
            )
        if dispatch.rollout_id != manifest.rollout_id:
            return f"expected the manifest of {dispatch.rollout_id}, found that of {manifest.rollout_id}"
        signed = manifest.target_of(self._state.hostname)
        if signed != dispatch.target_closure:
            return (
                f"the manifest of {manifest.rollout_id} gives {self._state.hostname} "
                f"{signed or 'no closure'}, the dispatch says {dispatch.target_closure}"
            )
        return None

    def _open(self, commit: CommitBuilder, offer: DispatchOffered) -> None:
        manifest, dispatch = offer.manifest.value, offer.dispatch
        record = HostRolloutState.pending(
            manifest.rollout_id,
            self._state.hostname,
            manifest.channel,
            dispatch.target_closure,
            dispatch.enqueued_at,
            dispatch.soak_due_at,
        )
        self._state.put_rollout(commit, LocalRollout(record, manifest.rollout_policy))

    def _close(self, commit: CommitBuilder, rollout: LocalRollout, now: datetime) -> None:
        """A newer rollout takes over: no more probes, no rollback of what no longer runs."""
        self._state.put_rollout(commit, evolve(rollout, closed_at=now))
        self._state.checks.discard(rollout.record.rollout_id)
        commit.afterwards(StopProbes(rollout.record.rollout_id))

    def _switch_started(self, commit: CommitBuilder, input: SwitchStarted, now: datetime) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None:
            return
        record = self._state.rollouts[intent.rollout_id].record
        # A resumed switch was started before.
        if record.state is HostState.ACTIVATING and record.activation_started_at is None:
            method = input.switch_method
            self._emit(
                commit, intent.rollout_id, lambda seq: ActivationStarted(now, method, seq), now
            )

    def _switch_ended(self, commit: CommitBuilder, input: SwitchEnded, now: datetime) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None:
            return
        self._state.remove_intent(commit, intent)
        if self._state.rollouts[intent.rollout_id].record.state is HostState.ACTIVATING:
            self._emit(commit, intent.rollout_id, _activation_fact(input.outcome, now), now)

    def _reboot_may_have_ended_deferral(
        self, commit: CommitBuilder, running_closure: str, now: datetime
    ) -> None:
        for rollout in self._open_rollouts():
            record = rollout.record
            if record.state is HostState.DEFERRED and running_closure == record.target_closure:
                outcome = SwitchCompleted(running_closure, exit_code=0)
                self._emit(commit, record.rollout_id, _activation_fact(outcome, now), now)

    # From soak to rest.

    def _checks_loaded(self, commit: CommitBuilder, input: ChecksLoaded, now: datetime) -> None:
        rollout = self._soaking(input.rollout_id)
        if rollout is None:
            return
        self._state.checks.set(input.rollout_id, input.checks)
        if rollout.record.declared_probes is None:
            self._emit(commit, input.rollout_id, topology_of(input.checks, now), now)
        commit.afterwards(StartProbes(input.rollout_id, input.checks))
        self._converge_if_due(commit, input.rollout_id, now)

    def _checks_unreadable(
        self, commit: CommitBuilder, input: ChecksUnreadable, now: datetime
    ) -> None:
        """What cannot be checked has failed: it must not converge unseen."""
        rollout = self._soaking(input.rollout_id)
        if rollout is not None and UNREADABLE_CHECKS not in rollout.record.probes:
            for fact_of in unreadable_facts(input.problem, now):
                self._emit(commit, input.rollout_id, fact_of, now)

    def _probe_ran(self, commit: CommitBuilder, input: ProbeRan, now: datetime) -> None:
        rollout = self._soaking(input.rollout_id)
        checks = self._state.checks.get(input.rollout_id)
        check = None if checks is None else checks.get(input.probe_name)
        if rollout is None or check is None:
            return  # It was started for a closure or a soak that is over.
        for fact_of in facts_of_probe(rollout.record, input.probe_name, check, input.outcome, now):
            self._emit(commit, input.rollout_id, fact_of, now)
        self._converge_if_due(commit, input.rollout_id, now)

    def _tick(self, commit: CommitBuilder, now: datetime) -> None:
        for rollout in self._open_rollouts():
            rollout_id = rollout.record.rollout_id
            failed = sustained_failure(rollout.record, rollout.policy, self._failure_threshold, now)
            if failed is not None:
                self._emit(commit, rollout_id, failed, now)
            else:
                self._converge_if_due(commit, rollout_id, now)
        self._forget_closed(commit, now)

    def _converge_if_due(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        rollout = self._soaking(rollout_id)
        if rollout is None:
            return
        record = rollout.record
        running = record.current_closure
        # The topology comes first: before it, "every declared probe has reported" would be empty talk.
        if record.declared_probes is None or running is None:
            return
        if first_broken_rule(record, running, now) is None:
            self._emit(commit, rollout_id, lambda seq: Converged(now, running, seq), now)

    def _rollback_ended(self, commit: CommitBuilder, input: RollbackEnded, now: datetime) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None:
            return
        self._state.remove_intent(commit, intent)
        outcome = input.outcome
        if self._state.rollouts[intent.rollout_id].record.state is HostState.FAILED:
            self._emit(
                commit,
                intent.rollout_id,
                lambda seq: RollbackComplete(outcome.current_closure, outcome.exit_code, now, seq),
                now,
            )

    # After a start.

    def _boot(self, commit: CommitBuilder, input: Booted, now: datetime) -> None:
        for rollout in self._open_rollouts():
            for effect in rehydration_effects(rollout.record):
                apply(effect, self._state, commit, now)
            if rollout.record.state is HostState.SOAKING:
                commit.afterwards(
                    LoadChecks(rollout.record.rollout_id, rollout.record.target_closure)
                )
        for intent in self._state.intents.values():
            commit.afterwards(CarryOut(intent))
        self._reboot_may_have_ended_deferral(commit, input.running_closure, now)
        commit.afterwards(WakeSender())
        commit.afterwards(KeepManifestsOf(tuple(self._state.rollouts)))

    def _bootstrap(self, commit: CommitBuilder, input: RecordBootstrapped, now: datetime) -> None:
        """Take over what the control plane remembers and the journal does not, and go on from there."""
        record = input.record
        known = self._state.rollouts.get(record.rollout_id)
        if known is not None and known.record.last_event_seq >= record.last_event_seq:
            return
        policy = input.manifest.value.rollout_policy
        self._state.put_rollout(commit, LocalRollout(record, policy))
        for effect in rehydration_effects(record):
            apply(effect, self._state, commit, now)
        intent = self._interrupted(commit, record)
        if intent is not None:
            commit.afterwards(CarryOut(intent))
        elif record.state is HostState.SOAKING:
            commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))

    def _interrupted(self, commit: CommitBuilder, record: HostRolloutState) -> Intent | None:
        """The act that the record says was decided and not ended; an activator does it once in effect."""
        prior = record.current_closure_at_dispatch
        if record.state is HostState.ACTIVATING:
            return self._state.add_intent(
                commit, IntentKind.SWITCH, record.rollout_id, record.target_closure
            )
        wants_rollback = record.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
        if record.state is HostState.FAILED and wants_rollback and prior is not None:
            return self._state.add_intent(commit, IntentKind.ROLLBACK, record.rollout_id, prior)
        return None

    def _replay(self, commit: CommitBuilder, input: ReplayAsked) -> None:
        rollout_id = next((r for r in self._state.rollouts if r == input.replay.rollout_id), None)
        if rollout_id is not None:
            commit.write(MarkUnsent(rollout_id, input.replay.first_missing_seq))
            commit.afterwards(WakeSender())

    def _forget_closed(self, commit: CommitBuilder, now: datetime) -> None:
        expired = [
            rollout_id
            for rollout_id, rollout in self._state.rollouts.items()
            if rollout.closed_at is not None and now - rollout.closed_at >= self._retention
        ]
        for rollout_id in expired:
            self._state.remove_rollout(commit, rollout_id)
        if expired:
            commit.afterwards(KeepManifestsOf(tuple(self._state.rollouts)))

    # What all of it comes down to.

    def _emit(
        self, commit: CommitBuilder, rollout_id: RolloutId, fact_of: FactOf, now: datetime
    ) -> None:
        """Live a fact: give it the next number, step, and let the applier carry out the effects."""
        rollout = self._state.rollouts[rollout_id]
        fact = fact_of(rollout.record.last_event_seq + 1)
        record, effects = step(rollout.record, Local(fact), now, rollout.policy)
        self._state.put_record(commit, record)
        for effect in effects:
            apply(effect, self._state, commit, now)

    def _open_rollouts(self) -> list[LocalRollout]:
        return [r for r in self._state.rollouts.values() if r.closed_at is None]

    def _soaking(self, rollout_id: RolloutId) -> LocalRollout | None:
        rollout = self._state.rollouts.get(rollout_id)
        if rollout is None or rollout.closed_at is not None:
            return None
        return rollout if rollout.record.state is HostState.SOAKING else None


def _activation_fact(outcome: SwitchOutcome, now: datetime) -> FactOf:
    match outcome:
        case SwitchCompleted():
            return lambda seq: ActivationCompleted(
                outcome.current_closure, outcome.exit_code, now, seq
            )
        case SwitchDeferred():
            return lambda seq: ActivationDeferred(outcome.component, now, seq)
        case SwitchFailed():
            return lambda seq: ActivationFailed(outcome.exit_code, str(outcome), now, seq)
        case ClosureMismatch():
            return lambda seq: ActivationFailed(EXIT_CODE_OF_AGENT, str(outcome), now, seq)
        case _:
            assert_never(outcome)
