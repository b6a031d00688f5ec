"""The agent's engine: which facts follow from an input. Sans I/O: it is told the time and what was seen.

It numbers the facts, runs them through `step` as `Local`, and leaves the effects to the applier. It acts on
the signed manifest, never on the dispatch; whether to roll back it decides from the manifest's policy.
Source: design 7, Agent; design 6, The agent trusts the manifest.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
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
from nixfleet_agent.agreement import objection_to_dispatch, objection_to_record
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
    IntentKind,
    KeepManifestsOf,
    LoadChecks,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    Reply,
    RollbackEnded,
    RolloutDisowned,
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
    facts_of_running_closure,
    failing_from,
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
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.engine import Commit
from nixfleet_state_machine.effect import EmitLog, LocalFireRollbackTo, LogLevel
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
                self._tick(commit, input, now)
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
                self._rejected(commit, input, now)
            case ReplayAsked():
                self._replay(commit, input)
            case RunningClosureSeen():
                self._look_at(commit, input.running_closure, now)
            case Booted():
                self._boot(commit, input, now)
            case RecordBootstrapped():
                self._bootstrap(commit, input, now)
            case RolloutDisowned():
                self._disowned(commit, input, now)
            case _:
                assert_never(input)
        return Done()

    # From dispatch to soak.

    def _consider(self, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> Reply:
        manifest = offer.manifest.value
        refusal = objection_to_dispatch(offer.dispatch, manifest, self._state.hostname)
        if refusal is not None:
            return DispatchRefused(refusal)
        rollout_id = manifest.rollout_id
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
        self._state.forget_probes(rollout.record.rollout_id)
        commit.afterwards(StopProbes(rollout.record.rollout_id))

    def _switch_started(self, commit: CommitBuilder, input: SwitchStarted, now: datetime) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None or intent.rollout_id not in self._state.rollouts:
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
        if isinstance(input.outcome, SwitchCompleted):
            self._state.running_closure.set(input.outcome.current_closure)
        if self._state_of(intent.rollout_id) is HostState.ACTIVATING:
            self._emit(commit, intent.rollout_id, _activation_fact(input.outcome, now), now)

    def _look_at(self, commit: CommitBuilder, running: str, now: datetime) -> None:
        """A reboot may have brought a deferred closure to life, or another one than the one that soaks."""
        self._state.running_closure.set(running)
        for rollout in self._open_rollouts():
            record = rollout.record
            if record.state is HostState.DEFERRED and running == record.target_closure:
                outcome = SwitchCompleted(running, exit_code=0)
                self._emit(commit, record.rollout_id, _activation_fact(outcome, now), now)
            elif record.state is HostState.SOAKING:
                for fact_of in facts_of_running_closure(record, running, now):
                    self._emit(commit, record.rollout_id, fact_of, now)

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
        for fact_of in facts_of_probe(
            rollout.record, input.probe_name, check.mode, input.outcome, now
        ):
            self._emit(commit, input.rollout_id, fact_of, now)
        record = self._state.rollouts[input.rollout_id].record
        known = self._state.failing_from.get(input.rollout_id, FrozenMap())
        self._state.failing_from.set(
            input.rollout_id, failing_from(known, record, input.probe_name, now)
        )
        self._converge_if_due(commit, input.rollout_id, now)

    def _tick(self, commit: CommitBuilder, tick: Tick, now: datetime) -> None:
        for rollout in self._open_rollouts():
            rollout_id = rollout.record.rollout_id
            failed = sustained_failure(
                rollout.record,
                rollout.policy,
                self._failure_threshold,
                now,
                self._state.failing_from.get(rollout_id, FrozenMap()),
            )
            if failed is not None:
                self._emit(commit, rollout_id, failed, now)
            else:
                self._converge_if_due(commit, rollout_id, now)
        self._forget(commit, [it for it in self._expired(now) if it not in tick.unsent])

    def _converge_if_due(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        rollout = self._soaking(rollout_id)
        if rollout is None:
            return
        record = rollout.record
        running = self._state.running_closure.get() or record.current_closure
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
        self._state.running_closure.set(outcome.current_closure)
        if self._state_of(intent.rollout_id) is HostState.FAILED:
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
        self._look_at(commit, input.running_closure, now)
        commit.afterwards(WakeSender())
        commit.afterwards(KeepManifestsOf(tuple(self._state.rollouts)))

    def _bootstrap(self, commit: CommitBuilder, input: RecordBootstrapped, now: datetime) -> None:
        """Take over what the control plane remembers and the journal does not, and go on from there."""
        record = input.record
        known = self._state.rollouts.get(record.rollout_id)
        if known is not None and known.record.last_event_seq >= record.last_event_seq:
            return
        objection = objection_to_record(record, input.manifest.value, self._state.hostname)
        if objection is not None:
            commit.afterwards(
                _said(LogLevel.ERROR, "what it remembers is not taken over", objection)
            )
            return
        self._take_over(commit, record, input.manifest.value.rollout_policy, now)
        if self._state.rollouts[record.rollout_id].closed_at is not None:
            return
        for effect in rehydration_effects(record):
            apply(effect, self._state, commit, now)
        if record.state is HostState.ACTIVATING:
            # Decided and not known to be over; the activator does it once in effect.
            intent = self._state.add_intent(
                commit, IntentKind.SWITCH, record.rollout_id, record.target_closure
            )
            commit.afterwards(CarryOut(intent))
        elif record.state is HostState.SOAKING:
            commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))

    def _take_over(
        self, commit: CommitBuilder, record: HostRolloutState, policy: RolloutPolicy, now: datetime
    ) -> None:
        """One rollout is open at a time, the latest: taken up, an older one would switch the host back."""
        is_latest = True
        for other in self._open_rollouts():
            if other.record.rollout_id == record.rollout_id:
                continue
            if _began(other.record) > _began(record):
                is_latest = False
            else:
                self._close(commit, other, now)
        known = self._state.rollouts.get(record.rollout_id)
        closed_at = None if known is None else known.closed_at
        taken = LocalRollout(
            record,
            policy,
            closed_at if is_latest else closed_at or now,
            taken_over_seq=record.last_event_seq,
        )
        self._state.put_rollout(commit, taken)

    def _rejected(self, commit: CommitBuilder, input: EventRejected, now: datetime) -> None:
        """The row is marked, and the rest goes on; a convergence that was refused is not the end of a rollout."""
        commit.write(MarkRefused(input.row_id, input.refusal.reason))
        rollout = self._state.rollouts.get(RolloutId(input.refusal.rollout_id))
        if rollout is None or rollout.closed_at is not None:
            return
        record = rollout.record
        if record.state is HostState.CONVERGED and record.last_event_seq == input.refusal.seq:
            self._soak_again(commit, record, now)

    def _soak_again(self, commit: CommitBuilder, record: HostRolloutState, now: datetime) -> None:
        """Go back to the soak that the control plane still sees, for a whole window from now.

        It may have lost its database and dispatched anew while the host went by the dispatch from before. Its window
        began before now, so the next convergence is late enough. No event of the machine leads out of Converged, and
        none should: here the two records are brought together again, as when one is taken over.
        """
        window = (record.soak_due_at or now) - (record.dispatched_at or now)
        again = evolve(
            record, state=HostState.SOAKING, converged_at=None, soak_due_at=now + abs(window)
        )
        self._state.put_record(commit, again)
        about = f"{record.rollout_id}, until {again.soak_due_at}"
        commit.afterwards(
            _said(LogLevel.WARNING, "its convergence was refused: it soaks again", about)
        )
        commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))

    def _replay(self, commit: CommitBuilder, input: ReplayAsked) -> None:
        rollout_id = next((r for r in self._state.rollouts if r == input.replay.rollout_id), None)
        if rollout_id is None:
            return
        if input.replay.first_missing_seq <= self._state.rollouts[rollout_id].taken_over_seq:
            self._start_over(commit, rollout_id)
            return
        commit.write(MarkUnsent(rollout_id, input.replay.first_missing_seq))
        commit.afterwards(WakeSender())

    def _start_over(self, commit: CommitBuilder, rollout_id: RolloutId) -> None:
        """Both sides have lost the beginning: nobody can tell it any more. The next dispatch begins anew."""
        if any(intent.rollout_id == rollout_id for intent in self._state.intents.values()):
            return  # It is asked for again when the act is over.
        commit.afterwards(
            _said(
                LogLevel.ERROR,
                "its beginning is lost on both sides, so it is forgotten and may be dispatched anew",
                rollout_id,
            )
        )
        commit.afterwards(StopProbes(rollout_id))
        self._forget(commit, [rollout_id])

    def _disowned(self, commit: CommitBuilder, input: RolloutDisowned, now: datetime) -> None:
        """Once its retention has passed, what nobody will ever take need not be kept for anybody."""
        if input.rollout_id in self._expired(now):
            commit.afterwards(
                _said(
                    LogLevel.WARNING,
                    "forgotten with facts that the control plane did not take, as it does not know the rollout",
                    input.rollout_id,
                )
            )
            self._forget(commit, [input.rollout_id])

    def _expired(self, now: datetime) -> list[RolloutId]:
        return [
            rollout_id
            for rollout_id, rollout in self._state.rollouts.items()
            if rollout.closed_at is not None and now - rollout.closed_at >= self._retention
        ]

    def _forget(self, commit: CommitBuilder, rollout_ids: Sequence[RolloutId]) -> None:
        for rollout_id in rollout_ids:
            self._state.remove_rollout(commit, rollout_id)
        if rollout_ids:
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
            if isinstance(effect, LocalFireRollbackTo) and rollout.taken_over_seq:
                # Where to go back to is the control plane's word here, and that moves no machine.
                said = f"{rollout_id} to {effect.closure}"
                commit.afterwards(
                    _said(LogLevel.ERROR, "not rolling back, as the journal was lost", said)
                )
            else:
                apply(effect, self._state, commit, now)

    def _open_rollouts(self) -> list[LocalRollout]:
        return [r for r in self._state.rollouts.values() if r.closed_at is None]

    def _state_of(self, rollout_id: RolloutId) -> HostState | None:
        rollout = self._state.rollouts.get(rollout_id)
        return None if rollout is None else rollout.record.state

    def _soaking(self, rollout_id: RolloutId) -> LocalRollout | None:
        rollout = self._state.rollouts.get(rollout_id)
        if rollout is None or rollout.closed_at is not None:
            return None
        return rollout if rollout.record.state is HostState.SOAKING else None


def _began(record: HostRolloutState) -> datetime:
    """When the control plane decided on it, by its own clock; a record always says so, but for its type."""
    return record.dispatched_at or datetime.min.replace(tzinfo=UTC)


def _said(level: LogLevel, message: str, about: object) -> EmitLog:
    return EmitLog(level, "nixfleet_agent.engine", message, (("about", str(about)),))


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
