"""What the engine does with a dispatch: taken, refused, or postponed by the host's own lock.

It acts on the signed manifest, never on the dispatch.
Source: docs/spec/trust.md, The agent trusts the manifest, not the dispatch; docs/spec/holds.md.
"""

from datetime import datetime

from attrs import evolve

from nixfleet_agent.engine.attempts import is_taken_already, objection_to_first, objection_to_next
from nixfleet_agent.engine.downgrade import objection_to_release, objection_to_retry, release_of
from nixfleet_agent.engine.handlers.emission import emit
from nixfleet_agent.engine.locks import TOLD_AGAIN_AFTER, lock_answer, lock_reply
from nixfleet_agent.engine.manifest_agreement import objection_to_dispatch
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.reconcile import log_entry
from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    LockAnswered,
    Reply,
    WakeSender,
)
from nixfleet_proto.agent_event import DispatchAck, Postponed
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.effect import LogLevel
from nixfleet_state_machine.host.state import HostRolloutState, HostState


def consider(
    state: State, options: Options, commit: CommitBuilder, offer: DispatchOffered, now: datetime
) -> Reply:
    """Answer a dispatch: of a rollout that is new here or waits for the lock, the one taken, or another attempt."""
    rollout_id = offer.manifest.value.rollout_id
    hindrance = _hindrance(state, commit, offer, now)
    if hindrance is not None:
        return hindrance
    locked = lock_reply(state, offer, options.ask_again, now)
    if locked is not None:
        if isinstance(locked, DispatchPostponed):
            _postpone_again(state, commit, rollout_id, now)
        return locked
    known = state.rollouts.get(rollout_id)
    if known is None or known.record.state is HostState.PENDING:
        _begin(state, commit, offer, now)
    else:
        _begin_again(state, commit, offer, known, now)
    state.lock_answers.discard(rollout_id)
    state.use_overrides(commit, rollout_id, now)
    return DispatchTaken()


def _hindrance(
    state: State, commit: CommitBuilder, offer: DispatchOffered, now: datetime
) -> DispatchTaken | DispatchPostponed | DispatchRefused | None:
    """Return why a dispatch begins nothing now, whatever the host's lock says; `None` if it would."""
    manifest, dispatch = offer.manifest.value, offer.dispatch
    refusal = objection_to_dispatch(dispatch, manifest, state.hostname, now)
    if refusal is not None:
        return DispatchRefused(refusal)
    known = state.rollouts.get(manifest.rollout_id)
    if known is not None and is_taken_already(dispatch, known):
        # The acknowledgement has not reached the control plane yet.
        commit.afterwards(WakeSender())
        return DispatchTaken()
    is_under_way = any(map(state.is_under_way, state.intents.values()))
    if known is not None and known.record.state is not HostState.PENDING:
        if is_under_way:
            return DispatchPostponed()
        refusal = _objection_to_next(state, offer, known)
    else:
        refusal = _objection_to_first(state, offer)
    if refusal is not None:
        return DispatchRefused(refusal)
    return DispatchPostponed() if is_under_way else None


def _objection_to_first(state: State, offer: DispatchOffered) -> str | None:
    manifest = offer.manifest.value
    return objection_to_first(offer.dispatch, manifest.rollout_id) or (
        objection_to_release(
            manifest,
            state.hostname,
            state.newest_release.get(),
            state.rolled_back,
        )
    )


def _objection_to_next(state: State, offer: DispatchOffered, known: LocalRollout) -> str | None:
    if state.is_recalled(known.record.rollout_id):
        return f"{known.record.rollout_id} was recalled here by an order; sign a new release"
    newest, rolled_back = state.newest_release.get(), state.rolled_back
    return objection_to_next(offer.dispatch, known) or objection_to_retry(
        offer.manifest.value, known.record, newest, rolled_back
    )


def _begin(state: State, commit: CommitBuilder, offer: DispatchOffered, now: datetime) -> None:
    """Take the first attempt of a rollout, in place of every other one."""
    rollout_id = offer.manifest.value.rollout_id
    for older in state.open_rollouts():
        if older.record.rollout_id != rollout_id:
            state.close_rollout(commit, older, now)
    _put_pending(state, commit, offer, now)
    state.obey(commit, release_of(offer.manifest.value))
    running = offer.running_closure
    emit(state, commit, rollout_id, lambda seq: DispatchAck(running, now, seq), now)


def _put_pending(
    state: State, commit: CommitBuilder, offer: DispatchOffered, now: datetime
) -> None:
    """Put the rollout of a first attempt, or put it anew: one that waits for the lock has told facts already."""
    manifest, dispatch = offer.manifest.value, offer.dispatch
    known = state.rollouts.get(manifest.rollout_id)
    record = HostRolloutState.pending(
        manifest.rollout_id,
        state.hostname,
        manifest.channel,
        dispatch.target_closure,
        *_times_of(dispatch, now),
    )
    taken_over_seq = 0
    if known is not None:
        record = evolve(record, last_event_seq=known.record.last_event_seq)
        taken_over_seq = known.taken_over_seq
    rollout = LocalRollout(record, manifest.rollout_policy, taken_over_seq=taken_over_seq)
    state.put_rollout(commit, rollout)


def _begin_again(
    state: State, commit: CommitBuilder, offer: DispatchOffered, known: LocalRollout, now: datetime
) -> None:
    """Take another attempt of a rollout that this host knows."""
    manifest, dispatch = offer.manifest.value, offer.dispatch
    record = known.record.dispatched(*_times_of(dispatch, now))
    # The manifest may have been signed again since the attempt before.
    again = evolve(known, record=record, policy=manifest.rollout_policy, home_at=None)
    state.begin_anew(commit, again)
    state.obey(commit, release_of(manifest))
    running, attempt = offer.running_closure, dispatch.attempt
    emit(state, commit, record.rollout_id, lambda seq: DispatchAck(running, now, seq, attempt), now)


def _times_of(dispatch: Dispatch, now: datetime) -> tuple[datetime, datetime]:
    """Return when `dispatch` was made, and the earliest end of its soak.

    One dated in the future would soak until then. The control plane, too, counts it from its receipt.
    """
    dispatched_at = min(dispatch.enqueued_at, now)
    return dispatched_at, dispatched_at + (dispatch.soak_due_at - dispatch.enqueued_at)


def lock_answered(
    state: State, options: Options, commit: CommitBuilder, input: LockAnswered, now: datetime
) -> Reply:
    """Take what the host's own lock said. The dispatch must be offered again: it may be withdrawn meanwhile."""
    offer = input.offer
    hindrance = _hindrance(state, commit, offer, now)
    if hindrance is not None:
        return hindrance
    rollout_id, ask_again = offer.manifest.value.rollout_id, options.ask_again
    assert ask_again is not None, "asked without a lock"
    if state.is_overridden(rollout_id, now):
        return Done()  # The order came while the lock was asked, so its answer counts for nothing.
    answer = lock_answer(input.outcome, offer.dispatch.attempt_number, ask_again, now)
    state.lock_answers.set(rollout_id, answer)
    if answer.may_begin:
        return Done()
    known = state.rollouts.get(rollout_id)
    if known is None or known.record.state is HostState.PENDING:
        for other in state.open_rollouts():
            is_another = other.record.rollout_id != rollout_id
            if is_another and other.record.state is HostState.PENDING:
                state.close_rollout(commit, other, now)
        _put_pending(state, commit, offer, now)
    reason, until = answer.reason, answer.until
    emit(state, commit, rollout_id, lambda seq: Postponed(now, reason, until, seq), now)
    if answer.is_broken:
        commit.afterwards(log_entry(LogLevel.ERROR, "postponed", f"{rollout_id}: {reason}"))
    return DispatchPostponed()


def _postpone_again(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> None:
    """Tell what the lock said again, at most once in a minute: the control plane does not hold this host for it."""
    answer = state.lock_answers[rollout_id]
    if now - answer.told_at >= TOLD_AGAIN_AFTER:
        state.lock_answers.set(rollout_id, evolve(answer, told_at=now))
        reason, until = answer.reason, answer.until
        emit(state, commit, rollout_id, lambda seq: Postponed(now, reason, until, seq), now)


def end_forgotten(state: State, commit: CommitBuilder, now: datetime) -> None:
    """End what the lock said to an earlier process: it is forgotten, and the lock may be another one, or gone.

    Once, and not before a minute: an agent that is started again and again adds no fact.
    """
    booted_at = state.booted_at.get()
    if booted_at is None or now - booted_at < TOLD_AGAIN_AFTER:
        return
    state.booted_at.set(None)
    for rollout in state.open_rollouts():
        rollout_id = rollout.record.rollout_id
        is_forgotten = rollout_id not in state.lock_answers
        if rollout.record.state is HostState.PENDING and is_forgotten:
            end_postponement(state, commit, rollout_id, "the agent was restarted", now)


def end_postponement(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, reason: str, now: datetime
) -> None:
    """Tell that the lock's "not now" is over."""
    emit(state, commit, rollout_id, lambda seq: Postponed(now, reason, now, seq), now)
