"""The agent's engine: which facts follow from an input. Sans I/O: time and observations are arguments.

It numbers the facts, runs them through `step` as `Local`, and leaves the effects to the applier. It acts on
the signed manifest, never on the dispatch; the manifest's policy decides whether to roll back.
`reconcile` handles a control plane whose records differ from the journal's.
Source: docs/spec/runtimes.md, Agent; docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import evolve

from nixfleet_agent.activation.activator import (
    EXIT_CODE_OF_AGENT,
    ClosureMismatch,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchEnd,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.engine.applier import apply
from nixfleet_agent.engine.attempts import (
    is_taken_already,
    objection_to_first,
    objection_to_next,
)
from nixfleet_agent.engine.deadlines import (
    activation_left,
    is_convergence_overdue,
    probes_in_the_way,
    switch_limit_seconds,
)
from nixfleet_agent.engine.downgrade import (
    objection_to_release,
    objection_to_retry,
    release_of,
)
from nixfleet_agent.engine.health_rule import open_probe, unhealthy_probes, with_tally
from nixfleet_agent.engine.home import home_outcome, seen_after
from nixfleet_agent.engine.locks import (
    TOLD_AGAIN_AFTER,
    is_held_off,
    lock_answer,
    lock_reply,
    objection_to_override,
    override,
)
from nixfleet_agent.engine.manifest_agreement import objection_to_dispatch
from nixfleet_agent.engine.observation import (
    CLOCK_STEP_MAX,
    Observed,
    at_start,
    place_of,
    waits_for,
    with_activating_time,
    with_sample,
    with_time,
)
from nixfleet_agent.engine.probe_facts import (
    OWN_PROBES,
    UNREADABLE_CHECKS,
    FactOf,
    facts_of_probe,
    facts_of_running_closure,
    regression,
    sustained_failure,
    topology_of,
    unreadable_facts,
)
from nixfleet_agent.engine.recalls import (
    is_carried_out,
    is_over,
    objection_to_recall,
    withdraw_waiting_switch,
)
from nixfleet_agent.engine.reconcile import (
    forget_disowned,
    log_entry,
    note_refusal,
    replay,
    take_over,
)
from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.engine.watching import (
    note_resting,
    watch,
    watched,
    watched_with_its_target,
)
from nixfleet_agent.messages.inputs import (
    Action,
    AttemptsUsedUp,
    Booted,
    CarryOut,
    ChecksLoaded,
    ChecksUnreadable,
    ClosureAwaited,
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    EventRejected,
    EventsAcknowledged,
    HomeLooked,
    Input,
    Intent,
    IntentBegun,
    IntentKind,
    IntentWithdrawn,
    KeepManifestsOf,
    LoadChecks,
    LockAnswered,
    MayBegin,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    Reply,
    RollbackEnded,
    RolloutDisowned,
    RolloutsRest,
    RunningClosureSeen,
    StartProbes,
    SwitchEnded,
    SwitchStarted,
    Tick,
    WakeSender,
    WarrantObeyed,
    WarrantOffered,
    WarrantRefused,
    WithdrawIntent,
)
from nixfleet_agent.messages.writes import MarkAcknowledged, Write
from nixfleet_agent.probes.runner import ProbeOutcome
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
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    Recalled,
    RollbackComplete,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, HealthCheck, HomeProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_runtime.kernel.redacted import redacted
from nixfleet_state_machine.host.convergence import first_broken_rule
from nixfleet_state_machine.host.effect import LocalFireRollbackTo, LogLevel
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.reducer import rehydration_effects, step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RETENTION_DEFAULT

DISOWNED_RETENTION = timedelta(days=30)
"""How long facts are kept after their rollout was closed when the control plane says that it does not know it. Its word
alone deletes nothing: one that was taken over would erase what an honest one must hear later."""
FAILED_UNITS_MAX: Final = 64
"""How many units that failed in a switch a fact names."""
ATTEMPTS_MAX: Final = 3
"""How often a switch or rollback is begun. One that ends the agent or its machine each time would be begun for ever."""
FAILURE_THRESHOLD_DEFAULT = timedelta(seconds=60)


class AgentEngine:
    """One host's state and every decision about it. Owned by one mutator.

    failure_threshold: how long an enforce probe must fail without a pass before the host is Failed.
    clock_step_max: the longest time between two ticks that counts towards a soak; more is a step of the clock.
    retention: how long a closed rollout's journal is kept, in case the control plane asks for a replay.
    attempts_max: how many processes of the agent may begin the same switch or rollback.
    ask_again: after what time the host's own lock is asked again, where it gives no end; `None`: the host has no lock.
    """

    def __init__(
        self,
        state: State,
        *,
        failure_threshold: timedelta = FAILURE_THRESHOLD_DEFAULT,
        retention: timedelta = RETENTION_DEFAULT,
        clock_step_max: timedelta = CLOCK_STEP_MAX,
        attempts_max: int = ATTEMPTS_MAX,
        ask_again: timedelta | None = None,
    ) -> None:
        self._state = state
        self._failure_threshold = failure_threshold
        self._retention = retention
        self._clock_step_max = clock_step_max
        self._attempts_max = attempts_max
        self._ask_again = ask_again
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
                self._probe_ran(commit, input, now)
            case HomeLooked():
                self._home_looked(commit, input, now)
            case Tick():
                self._tick(commit, input, now)
            case DispatchOffered():
                return self._consider(commit, input, now)
            case LockAnswered():
                return self._lock_answered(commit, input, now)
            case ClosureAwaited():
                self._closure_awaited(commit, input)
            case IntentBegun():
                return self._intent_begun(commit, input, now)
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
                note_refusal(self._state, commit, input, now)
            case ReplayAsked():
                return replay(self._state, commit, input, now)
            case RunningClosureSeen():
                self._note_running_closure(commit, input.running_closure, now)
            case Booted():
                self._boot(commit, input, now)
            case RecordBootstrapped():
                return take_over(self._state, commit, input, now)
            case RolloutDisowned():
                if input.rollout_id in self._state.expired(now, DISOWNED_RETENTION):
                    forget_disowned(self._state, commit, input.rollout_id)
            case WarrantOffered():
                return self._obey_warrant(commit, input.verified.warrant, now)
            case RolloutsRest():
                note_resting(self._state, commit, input)
            case _:
                assert_never(input)
        return Done()

    # From dispatch to soak.

    def _consider(self, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> Reply:
        """Answer a dispatch: of a rollout that is new here or waits for the lock, the one taken, or another attempt."""
        rollout_id = offer.manifest.value.rollout_id
        hindrance = self._hindrance(commit, offer, now)
        if hindrance is not None:
            return hindrance
        locked = lock_reply(self._state, offer, self._ask_again, now)
        if locked is not None:
            if isinstance(locked, DispatchPostponed):
                self._postpone_again(commit, rollout_id, now)
            return locked
        known = self._state.rollouts.get(rollout_id)
        if known is None or known.record.state is HostState.PENDING:
            self._begin(commit, offer, now)
        else:
            self._begin_again(commit, offer, known, now)
        self._state.lock_answers.discard(rollout_id)
        self._state.use_overrides(commit, rollout_id, now)
        return DispatchTaken()

    def _hindrance(
        self, commit: CommitBuilder, offer: DispatchOffered, now: datetime
    ) -> DispatchTaken | DispatchPostponed | DispatchRefused | None:
        """Return why a dispatch begins nothing now, whatever the host's lock says; `None` if it would."""
        manifest, dispatch = offer.manifest.value, offer.dispatch
        refusal = objection_to_dispatch(dispatch, manifest, self._state.hostname, now)
        if refusal is not None:
            return DispatchRefused(refusal)
        known = self._state.rollouts.get(manifest.rollout_id)
        if known is not None and is_taken_already(dispatch, known):
            # The acknowledgement has not reached the control plane yet.
            commit.afterwards(WakeSender())
            return DispatchTaken()
        is_under_way = any(map(self._state.is_under_way, self._state.intents.values()))
        if known is not None and known.record.state is not HostState.PENDING:
            if is_under_way:
                return DispatchPostponed()
            refusal = self._objection_to_next(offer, known)
        else:
            refusal = self._objection_to_first(offer)
        if refusal is not None:
            return DispatchRefused(refusal)
        return DispatchPostponed() if is_under_way else None

    def _objection_to_first(self, offer: DispatchOffered) -> str | None:
        manifest = offer.manifest.value
        return objection_to_first(offer.dispatch, manifest.rollout_id) or (
            objection_to_release(
                manifest,
                self._state.hostname,
                self._state.newest_release.get(),
                self._state.rolled_back,
            )
        )

    def _objection_to_next(self, offer: DispatchOffered, known: LocalRollout) -> str | None:
        if self._state.is_recalled(known.record.rollout_id):
            return f"{known.record.rollout_id} was recalled here by an order; sign a new release"
        newest, rolled_back = self._state.newest_release.get(), self._state.rolled_back
        return objection_to_next(offer.dispatch, known) or objection_to_retry(
            offer.manifest.value, known.record, newest, rolled_back
        )

    def _begin(self, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> None:
        """Take the first attempt of a rollout, in place of every other one."""
        rollout_id = offer.manifest.value.rollout_id
        for older in self._state.open_rollouts():
            if older.record.rollout_id != rollout_id:
                self._state.close_rollout(commit, older, now)
        self._put_pending(commit, offer, now)
        self._state.obey(commit, release_of(offer.manifest.value))
        running = offer.running_closure
        self._emit(commit, rollout_id, lambda seq: DispatchAck(running, now, seq), now)

    def _put_pending(self, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> None:
        """Put the rollout of a first attempt, or put it anew: one that waits for the lock has told facts already."""
        manifest, dispatch = offer.manifest.value, offer.dispatch
        known = self._state.rollouts.get(manifest.rollout_id)
        record = HostRolloutState.pending(
            manifest.rollout_id,
            self._state.hostname,
            manifest.channel,
            dispatch.target_closure,
            *_times_of(dispatch, now),
        )
        taken_over_seq = 0
        if known is not None:
            record = evolve(record, last_event_seq=known.record.last_event_seq)
            taken_over_seq = known.taken_over_seq
        rollout = LocalRollout(record, manifest.rollout_policy, taken_over_seq=taken_over_seq)
        self._state.put_rollout(commit, rollout)

    def _begin_again(
        self, commit: CommitBuilder, offer: DispatchOffered, known: LocalRollout, now: datetime
    ) -> None:
        """Take another attempt of a rollout that this host knows."""
        manifest, dispatch = offer.manifest.value, offer.dispatch
        record = known.record.dispatched(*_times_of(dispatch, now))
        # The manifest may have been signed again since the attempt before.
        again = evolve(known, record=record, policy=manifest.rollout_policy, home_at=None)
        self._state.begin_anew(commit, again)
        self._state.obey(commit, release_of(manifest))
        running, attempt = offer.running_closure, dispatch.attempt
        self._emit(
            commit, record.rollout_id, lambda seq: DispatchAck(running, now, seq, attempt), now
        )

    def _lock_answered(self, commit: CommitBuilder, input: LockAnswered, now: datetime) -> Reply:
        """Take what the host's own lock said. The dispatch must be offered again: it may be withdrawn meanwhile."""
        offer = input.offer
        hindrance = self._hindrance(commit, offer, now)
        if hindrance is not None:
            return hindrance
        rollout_id, ask_again = offer.manifest.value.rollout_id, self._ask_again
        assert ask_again is not None, "asked without a lock"
        if self._state.is_overridden(rollout_id, now):
            return (
                Done()
            )  # The order came while the lock was asked, so its answer counts for nothing.
        answer = lock_answer(input.outcome, offer.dispatch.attempt_number, ask_again, now)
        self._state.lock_answers.set(rollout_id, answer)
        if answer.may_begin:
            return Done()
        known = self._state.rollouts.get(rollout_id)
        if known is None or known.record.state is HostState.PENDING:
            for other in self._state.open_rollouts():
                is_another = other.record.rollout_id != rollout_id
                if is_another and other.record.state is HostState.PENDING:
                    self._state.close_rollout(commit, other, now)
            self._put_pending(commit, offer, now)
        reason, until = answer.reason, answer.until
        self._emit(commit, rollout_id, lambda seq: Postponed(now, reason, until, seq), now)
        if answer.is_broken:
            commit.afterwards(log_entry(LogLevel.ERROR, "postponed", f"{rollout_id}: {reason}"))
        return DispatchPostponed()

    def _postpone_again(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        """Tell what the lock said again, at most once in a minute: the control plane does not hold this host for it."""
        answer = self._state.lock_answers[rollout_id]
        if now - answer.told_at >= TOLD_AGAIN_AFTER:
            self._state.lock_answers.set(rollout_id, evolve(answer, told_at=now))
            reason, until = answer.reason, answer.until
            self._emit(commit, rollout_id, lambda seq: Postponed(now, reason, until, seq), now)

    def _end_forgotten(self, commit: CommitBuilder, now: datetime) -> None:
        """End what the lock said to an earlier process: it is forgotten, and the lock may be another one, or gone.

        Once, and not before a minute: an agent that is started again and again adds no fact.
        """
        booted_at = self._state.booted_at.get()
        if booted_at is None or now - booted_at < TOLD_AGAIN_AFTER:
            return
        self._state.booted_at.set(None)
        for rollout in self._state.open_rollouts():
            rollout_id = rollout.record.rollout_id
            is_forgotten = rollout_id not in self._state.lock_answers
            if rollout.record.state is HostState.PENDING and is_forgotten:
                self._end_postponement(commit, rollout_id, "the agent was restarted", now)

    def _end_postponement(
        self, commit: CommitBuilder, rollout_id: RolloutId, reason: str, now: datetime
    ) -> None:
        self._emit(commit, rollout_id, lambda seq: Postponed(now, reason, now, seq), now)

    def _closure_awaited(self, commit: CommitBuilder, input: ClosureAwaited) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None:
            return
        if self._is_undone(intent):
            self._state.remove_intent(commit, intent)
            commit.afterwards(WithdrawIntent(intent))
        else:
            self._state.awaited.set(input.intent_id, input.reason)

    def _is_undone(self, intent: Intent) -> bool:
        """Whether it is a switch that a rollback of the same rollout takes back: it is not begun any more."""
        return intent.kind is IntentKind.SWITCH and any(
            other.kind is IntentKind.ROLLBACK and other.rollout_id == intent.rollout_id
            for other in self._state.intents.values()
        )

    def _intent_begun(self, commit: CommitBuilder, input: IntentBegun, now: datetime) -> Reply:
        """Count the attempt; a switch or rollback that ended each process that began it has failed."""
        intent = self._state.intents.get(input.intent_id)
        if intent is None:
            return IntentWithdrawn()
        if intent.intent_id in self._state.begun or intent.attempts < self._attempts_max:
            self._state.begin_intent(commit, intent)
            return MayBegin(self._limit_seconds_of(intent))
        reason = _begun_too_often(intent)
        kind = intent.kind
        match kind:
            case IntentKind.SWITCH:
                failed = SwitchFailed(SwitchPhase.SWITCH, EXIT_CODE_OF_AGENT, reason)
                self._switch_ended(commit, SwitchEnded(intent.intent_id, failed), now)
            case IntentKind.ROLLBACK:
                running = self._state.running_closure.get()
                assert running is not None, (
                    "every start reports what runs before it begins an intent"
                )
                undone = RollbackFinished(running, EXIT_CODE_OF_AGENT, reason)
                self._rollback_ended(commit, RollbackEnded(intent.intent_id, undone), now)
            case _:
                assert_never(kind)
        commit.afterwards(log_entry(LogLevel.ERROR, "it has failed", reason))
        return AttemptsUsedUp()

    def _limit_seconds_of(self, intent: Intent) -> float | None:
        rollout = self._state.rollouts.get(intent.rollout_id)
        if rollout is None:
            return None
        return switch_limit_seconds(rollout, self._observed_of(intent.rollout_id))

    def _end_overdue_waiting(self, commit: CommitBuilder, now: datetime) -> None:
        """Fail the activations whose closure has not come by their deadline. Nothing was switched."""
        for intent in tuple(self._state.intents.values()):
            rollout = self._state.rollouts.get(intent.rollout_id)
            if rollout is None or self._state.is_under_way(intent):
                continue
            observed = self._observed_of(intent.rollout_id)
            left = activation_left(rollout, observed)
            if left is None or left > timedelta():
                continue
            why = self._state.awaited.get(intent.intent_id, "it is still being fetched")
            limit_minutes = (left + observed.activating) / timedelta(minutes=1)
            reason = f"the closure did not come within {limit_minutes:g} min: {why}"
            failed = SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, reason)
            commit.afterwards(WithdrawIntent(intent))
            self._switch_ended(commit, SwitchEnded(intent.intent_id, failed), now)

    def _switch_started(self, commit: CommitBuilder, input: SwitchStarted, now: datetime) -> None:
        intent = self._state.intents.get(input.intent_id)
        if intent is None or intent.rollout_id not in self._state.rollouts:
            return
        record = self._state.rollouts[intent.rollout_id].record
        # A switch that is resumed was reported before.
        if record.state is HostState.ACTIVATING and record.activation_started_at is None:
            known = self._state.rollouts[intent.rollout_id]
            self._state.put_rollout(commit, evolve(known, home_at=input.answered_at))
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

    def _note_running_closure(self, commit: CommitBuilder, running: str, now: datetime) -> None:
        """Note what runs: a reboot may have activated a deferred closure, or one other than the soaking one."""
        self._state.running_closure.set(running)
        for rollout in self._state.open_rollouts():
            record = rollout.record
            if record.state is HostState.DEFERRED and running == record.target_closure:
                outcome = SwitchCompleted(running, exit_code=0)
                self._emit(commit, record.rollout_id, _activation_fact(outcome, now), now)
            elif record.state is HostState.SOAKING:
                for fact_of in facts_of_running_closure(record, running, now):
                    self._emit(commit, record.rollout_id, fact_of, now)
            elif record.state is HostState.CONVERGED and running != record.target_closure:
                # Drift, which is not a failure of the closure: what was seen of that before it has ended.
                self._state.observed.discard(record.rollout_id)

    # From soak to the end.

    def _checks_loaded(self, commit: CommitBuilder, input: ChecksLoaded, now: datetime) -> None:
        rollout = self._soaking(input.rollout_id)
        if rollout is None:
            watch(self._state, commit, input)
            return
        self._state.checks.set(input.rollout_id, input.checks)
        topology = topology_of(input.checks)
        if rollout.record.declared_probes != topology:
            # Never declared, or declared otherwise in a record that was taken over.
            self._emit(
                commit, input.rollout_id, lambda seq: ProbeTopologyDeclared(topology, now, seq), now
            )
        commit.afterwards(StartProbes(input.rollout_id, input.checks))
        self._converge_if_due(commit, input.rollout_id, now)

    def _checks_unreadable(
        self, commit: CommitBuilder, input: ChecksUnreadable, now: datetime
    ) -> None:
        """Report a failing probe: a closure that cannot be checked must not converge."""
        if watched(self._state, input.rollout_id) is not None:
            about = f"{input.rollout_id}: {input.problem}"
            commit.afterwards(log_entry(LogLevel.ERROR, "converged, and not watched", about))
        rollout = self._soaking(input.rollout_id)
        if rollout is not None and UNREADABLE_CHECKS not in rollout.record.probes:
            for fact_of in unreadable_facts(input.problem, now):
                self._emit(commit, input.rollout_id, fact_of, now)

    def _probe_ran(self, commit: CommitBuilder, input: ProbeRan, now: datetime) -> None:
        rollout = self._soaking(input.rollout_id)
        checks = self._state.checks.get(input.rollout_id)
        check = None if checks is None else checks.get(input.probe_name)
        if check is None:
            return  # The probe was started for a closure or a soak that has ended.
        if rollout is None:
            if watched_with_its_target(self._state, input.rollout_id) is not None:
                # No fact: the host is past its verdict. Only a failure that lasts is one.
                status, gap_max = input.outcome.status, self._gap_max(check)
                self._observe(input.rollout_id, input.probe_name, status, now, gap_max)
            return
        self._sampled(commit, rollout.record, input.probe_name, check, input.outcome, now)

    def _home_looked(self, commit: CommitBuilder, input: HomeLooked, now: datetime) -> None:
        """Judge the contact of a host that soaks; one that has converged came home."""
        rollout = self._soaking(input.rollout_id)
        check = self._state.checks.get(input.rollout_id, HealthCheckSet()).get(input.probe_name)
        if rollout is None or not isinstance(check, HomeProbe):
            return
        record = rollout.record
        known, place = self._observed_of(input.rollout_id), self._place_in_soak(record, now)
        activated_at = record.activation_completed_at or now
        contact = seen_after(known, input.answered_at, activated_at, place, now)
        observed = evolve(known, contact=contact)
        self._state.observed.set(input.rollout_id, observed)
        outcome = home_outcome(check, rollout, observed, input.second_answers)
        if outcome is not None:
            self._sampled(commit, record, input.probe_name, check, outcome, now)

    def _sampled(
        self,
        commit: CommitBuilder,
        record: HostRolloutState,
        name: str,
        check: HealthCheck,
        outcome: ProbeOutcome,
        now: datetime,
    ) -> None:
        """Take a sample of a host that soaks: its facts, and what follows."""
        rollout_id = record.rollout_id
        for fact_of in facts_of_probe(record, name, check.mode, outcome, now):
            self._emit(commit, rollout_id, fact_of, now)
        self._tally(record, name, check, outcome.status, now)
        self._observe(rollout_id, name, outcome.status, now, self._gap_max(check))
        self._converge_if_due(commit, rollout_id, now)

    def _gap_max(self, check: HealthCheck) -> timedelta:
        """Two samples are neighbours when the probe's own interval lies between them, give or take a time-out."""
        return max(self._failure_threshold, 2 * timedelta(seconds=check.interval_seconds))

    def _tick(self, commit: CommitBuilder, tick: Tick, now: datetime) -> None:
        self._let_time_pass(now)
        self._end_overdue_waiting(commit, now)
        self._end_forgotten(commit, now)
        for rollout in self._state.open_rollouts():
            rollout_id = rollout.record.rollout_id
            failed = sustained_failure(
                rollout.record,
                rollout.policy,
                self._failure_threshold,
                now,
                self._observed_of(rollout_id).failing,
            )
            if failed is not None:
                self._emit(commit, rollout_id, failed, now)
            elif not self._fail_if_unhealthy(commit, rollout_id, now):
                self._converge_if_due(commit, rollout_id, now)
                self._fail_if_overdue(commit, rollout_id, now)
            # Until its convergence is settled, it may be refused, and the host soak again.
            if rollout_id not in tick.unsent:
                self._regress_if_due(commit, rollout_id, now)
        expired = self._state.expired(now, self._retention)
        self._state.remove_rollouts(commit, [each for each in expired if each not in tick.unsent])

    def _fail_if_unhealthy(
        self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
    ) -> bool:
        """Fail a host whose probes are unhealthy over the soak; return whether they are."""
        rollout = self._soaking(rollout_id)
        checks = self._state.checks.get(rollout_id)
        if rollout is None or checks is None:
            return False
        observed = self._observed_of(rollout_id)
        unhealthy = dict(unhealthy_probes(observed, rollout.record, checks))
        for name, outcome in unhealthy.items():
            # A result that says why: the record otherwise shows the latest sample, which may have passed.
            record = self._state.rollouts[rollout_id].record
            for fact_of in facts_of_probe(record, name, ProbeMode.ENFORCE, outcome, now):
                self._emit(commit, rollout_id, fact_of, now)
        if unhealthy:
            policy = rollout.policy.on_health_failure
            self._emit(
                commit, rollout_id, lambda seq: Failed(now, 0, tuple(unhealthy), policy, seq), now
            )
        return bool(unhealthy)

    def _fail_if_overdue(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        rollout = self._state.rollouts[rollout_id]
        observed = self._observed_of(rollout_id)
        if not is_convergence_overdue(rollout, observed):
            return
        names, policy = probes_in_the_way(rollout, observed), rollout.policy.on_health_failure
        self._emit(commit, rollout_id, lambda seq: Failed(now, 0, names, policy, seq), now)
        waits = ", ".join(names) or waits_for(rollout.record, observed) or "its rules"
        about = f"{rollout_id}: did not converge within its deadline, waiting for {waits}"
        commit.afterwards(log_entry(LogLevel.ERROR, "it has failed", about))

    def _observed_of(self, rollout_id: RolloutId) -> Observed:
        return self._state.observed.get(rollout_id, Observed())

    # While the rollout goes on.

    def _regress_if_due(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        rollout = watched_with_its_target(self._state, rollout_id)
        if rollout is None:
            return
        failing = self._observed_of(rollout_id).failing
        threshold = self._failure_threshold
        regressed = regression(rollout.record, rollout.policy, threshold, now, failing)
        if regressed is not None:
            self._emit(commit, rollout_id, regressed, now)

    def _tally(
        self,
        record: HostRolloutState,
        probe_name: str,
        check: HealthCheck,
        status: ProbeStatus,
        now: datetime,
    ) -> None:
        known = self._observed_of(record.rollout_id)
        place = self._place_in_soak(record, now)
        after = with_tally(known, record, probe_name, check, status, place)
        self._state.observed.set(record.rollout_id, after)

    def _place_in_soak(self, record: HostRolloutState, now: datetime) -> timedelta:
        """Return how much of the soak was seen to pass until now."""
        last_tick_at = self._state.last_tick_at.get()
        assert last_tick_at is not None, "set by the first input"
        known = self._observed_of(record.rollout_id)
        return place_of(known, now - last_tick_at, self._clock_step_max)

    def _observe(
        self,
        rollout_id: RolloutId,
        probe_name: str,
        status: ProbeStatus,
        now: datetime,
        gap_max: timedelta,
    ) -> None:
        known = self._observed_of(rollout_id)
        self._state.observed.set(rollout_id, with_sample(known, probe_name, status, now, gap_max))

    def _let_time_pass(self, now: datetime) -> None:
        """Count the time since the last tick, and look again at what the agent itself finds failing."""
        before = self._state.last_tick_at.get()
        assert before is not None, "set by the first input"
        self._state.last_tick_at.set(now)
        for rollout in self._state.open_rollouts():
            record = rollout.record
            if record.state is HostState.ACTIVATING:
                known = self._observed_of(record.rollout_id)
                after = with_activating_time(known, now - before, self._clock_step_max)
                self._state.observed.set(record.rollout_id, after)
            if record.state is not HostState.SOAKING:
                continue
            known = self._observed_of(record.rollout_id)
            self._state.observed.set(
                record.rollout_id, with_time(known, now - before, self._clock_step_max)
            )
            for name in OWN_PROBES:
                own = record.probes.get(name)
                if own is not None:
                    gap_max = self._clock_step_max
                    self._observe(record.rollout_id, name, own.status, now, gap_max)

    def _converge_if_due(self, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
        rollout = self._soaking(rollout_id)
        if rollout is None:
            return
        record = rollout.record
        running = self._state.running_closure.get() or record.current_closure
        # Without the topology, "every declared probe has reported" would hold for no probes; before the checks were
        # read in this process it may be that of a record that was taken over.
        checks = self._state.checks.get(rollout_id)
        if record.declared_probes is None or checks is None:
            return
        if running is None:
            return
        observed = self._observed_of(rollout_id)
        if waits_for(record, observed) is not None:
            return
        if open_probe(observed, record, checks) is not None:
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
            reason = outcome.stderr_tail.strip()[-FAILURE_REASON_LENGTH_MAX:] or None
            self._emit(
                commit,
                intent.rollout_id,
                lambda seq: RollbackComplete(
                    outcome.current_closure, outcome.exit_code, now, seq, reason
                ),
                now,
            )

    # By an operator's warrant.

    def _obey_warrant(self, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
        """Obey an order that is relayed until its fact is known, and obeyed once."""
        rule = warrant.rule
        match rule:
            case ClosureRule.PRIOR:
                return self._recall(commit, warrant, now)
            case ClosureRule.TARGET:
                return self._override(commit, warrant, now)
            case _:
                assert_never(rule)

    def _override(self, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
        """Begin the next attempt without asking the host's own lock; tell that the lock is over."""
        is_known = warrant.order_id in self._state.orders
        if is_known and self._state.is_overridden(warrant.rollout_id, now):
            if not is_held_off(self._state, warrant.rollout_id):
                return WarrantObeyed()
        else:
            refusal = objection_to_override(self._state, warrant)
            if refusal is not None:
                return WarrantRefused(warrant.rollout_id, refusal)
        reason = override(self._state, commit, warrant, now)
        self._end_postponement(commit, warrant.rollout_id, reason, now)
        commit.afterwards(log_entry(LogLevel.WARNING, "the lock is overridden", reason))
        return WarrantObeyed()

    def _recall(self, commit: CommitBuilder, warrant: Warrant, now: datetime) -> Reply:
        """Go back to what ran before the dispatch."""
        if is_carried_out(self._state, warrant):
            return WarrantObeyed()
        refusal = objection_to_recall(self._state, warrant)
        if is_over(warrant, now):
            refusal = (
                f"order {warrant.order_id} expired before the host could go back; sign a new one"
            )
        if refusal is not None:
            return WarrantRefused(warrant.rollout_id, refusal)
        withdraw_waiting_switch(self._state, commit, warrant)
        self._state.note_order(commit, warrant.order_id, warrant.rollout_id, now)
        order_id = warrant.order_id
        self._emit(commit, warrant.rollout_id, lambda seq: Recalled(order_id, now, seq), now)
        about = f"{warrant.rollout_id}, order {order_id} of {warrant.operator}: {warrant.reason}"
        commit.afterwards(log_entry(LogLevel.WARNING, "going back by a warrant", about))
        return WarrantObeyed()

    # After a start.

    def _boot(self, commit: CommitBuilder, input: Booted, now: datetime) -> None:
        self._state.booted_at.set(now)
        for rollout in self._state.open_rollouts():
            for effect in rehydration_effects(rollout.record):
                apply(effect, self._state, commit, now)
            left = _rollback_refused_of(rollout)
            if left is not None:
                reason = _not_rolling_back(left)
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
            if self._is_undone(intent):
                self._state.remove_intent(commit, intent)
            else:
                commit.afterwards(CarryOut(intent))
        self._note_running_closure(commit, input.running_closure, now)
        commit.afterwards(WakeSender())
        commit.afterwards(KeepManifestsOf(tuple(self._state.rollouts)))

    # What every handler ends in.

    def _emit(
        self, commit: CommitBuilder, rollout_id: RolloutId, fact_of: FactOf, now: datetime
    ) -> None:
        """Give a fact the next seq, step, and apply the effects."""
        rollout = self._state.rollouts[rollout_id]
        fact = _without_secrets(fact_of(rollout.record.last_event_seq + 1))
        record, effects = step(rollout.record, Local(fact), now, rollout.policy)
        self._state.put_record(commit, record)
        became_failed = record.state is HostState.FAILED is not rollout.record.state
        if became_failed and _has_nothing_to_go_back_to(record):
            about = f"{rollout_id}: {record.target_closure} ran before its dispatch"
            message = "failed, and not rolling back, as there is nothing to go back to"
            commit.afterwards(log_entry(LogLevel.ERROR, message, about))
        for effect in effects:
            if isinstance(effect, LocalFireRollbackTo) and rollout.taken_over_seq:
                # The rollback target would be the control plane's claim here, and a claim moves no machine.
                about = f"{rollout_id} to {effect.closure}"
                message = "not rolling back, as the journal was lost"
                commit.afterwards(log_entry(LogLevel.ERROR, message, about))
                self._state.refuse_rollback(commit, rollout_id, _not_rolling_back(effect.closure))
            else:
                apply(effect, self._state, commit, now)

    def _state_of(self, rollout_id: RolloutId) -> HostState | None:
        rollout = self._state.rollouts.get(rollout_id)
        return None if rollout is None else rollout.record.state

    def _soaking(self, rollout_id: RolloutId) -> LocalRollout | None:
        rollout = self._state.rollouts.get(rollout_id)
        if rollout is None or rollout.closed_at is not None:
            return None
        return rollout if rollout.record.state is HostState.SOAKING else None


def _times_of(dispatch: Dispatch, now: datetime) -> tuple[datetime, datetime]:
    """Return when `dispatch` was made, and the earliest end of its soak.

    One dated in the future would soak until then. The control plane, too, counts it from its receipt.
    """
    dispatched_at = min(dispatch.enqueued_at, now)
    return dispatched_at, dispatched_at + (dispatch.soak_due_at - dispatch.enqueued_at)


def _has_nothing_to_go_back_to(record: HostRolloutState) -> bool:
    goes_back = record.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
    return goes_back and record.current_closure_at_dispatch == record.target_closure


def _rollback_refused_of(rollout: LocalRollout) -> str | None:
    """Return the closure that a failed host of a lost journal would have been rolled back to, `None` if none is due."""
    record = rollout.record
    is_due = (
        record.state is HostState.FAILED
        and record.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
        and rollout.taken_over_seq > 0
    )
    return record.current_closure_at_dispatch if is_due else None


def _not_rolling_back(closure: str) -> str:
    return (
        f"not rolling back to {closure}: the journal was lost, and the control plane's word moves no machine; "
        "activate it by hand, or release it again"
    )


def _begun_too_often(intent: Intent) -> str:
    return (
        f"the {intent.kind.value} to {intent.closure} was begun {intent.attempts} times, and each time the agent "
        "or the machine was restarted before it ended: expected a script that restarts neither; it is not begun again"
    )


def _activation_fact(outcome: SwitchEnd, now: datetime) -> FactOf:
    match outcome:
        case SwitchCompleted():
            failed = outcome.failed_units[:FAILED_UNITS_MAX] or None
            return lambda seq: ActivationCompleted(
                outcome.current_closure, outcome.exit_code, now, seq, failed
            )
        case SwitchDeferred():
            return lambda seq: ActivationDeferred(outcome.component, now, seq)
        case SwitchFailed():
            return lambda seq: ActivationFailed(outcome.exit_code, str(outcome), now, seq)
        case ClosureMismatch():
            return lambda seq: ActivationFailed(EXIT_CODE_OF_AGENT, str(outcome), now, seq)
        case _:
            assert_never(outcome)


def _without_secrets(fact: AgentEvent) -> AgentEvent:
    """Return `fact` without what looks like a secret in its texts: the log keeps them for ever."""
    if isinstance(fact, ProbeResult) and fact.failure_reason is not None:
        return evolve(fact, failure_reason=redacted(fact.failure_reason))
    if isinstance(fact, Postponed):
        return evolve(fact, reason=redacted(fact.reason))
    if isinstance(fact, ActivationFailed):
        return evolve(fact, stderr_tail=redacted(fact.stderr_tail))
    if isinstance(fact, RollbackComplete) and fact.failure_reason is not None:
        return evolve(fact, failure_reason=redacted(fact.failure_reason))
    return fact
