"""Resolves differences between the agent's and the control plane's records: one lost its disk, or refused a fact.

Each function makes the smallest change that resolves its difference. No fact is emitted here: a record is taken over,
put back or removed, or rows are sent again, and each change is logged. The engine emits the facts that follow.
Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Boot.
"""

from datetime import UTC, datetime, timedelta

from attrs import evolve

from nixfleet_agent.engine.applier import apply
from nixfleet_agent.engine.downgrade import objection_to_release, release_of
from nixfleet_agent.engine.manifest_agreement import objection_to_record
from nixfleet_agent.engine.observation import Observed, judged_anew
from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.messages.inputs import (
    CarryOut,
    Done,
    EventRejected,
    IntentKind,
    LoadChecks,
    RecordBootstrapped,
    ReplayAsked,
    RequestRefused,
    StopProbes,
    WakeSender,
)
from nixfleet_agent.messages.writes import MarkRefused, MarkUnsent
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.effect import EmitLog, LogLevel
from nixfleet_state_machine.host.reducer import rehydration_effects
from nixfleet_state_machine.host.state import HostRolloutState, HostState


def take_over(
    state: State, commit: CommitBuilder, input: RecordBootstrapped, now: datetime
) -> Done | RequestRefused:
    """Take over a record of the control plane that is ahead of a new journal, and continue from it.

    One that is Pending says nothing that a host would need: no fact of it but that a lock said "not now". The host
    begins at 1, which the control plane takes, and what it notes at its dispatch is its own.
    """
    record, manifest = input.record, input.manifest.value
    if record.state is HostState.PENDING:
        return Done()
    known = state.rollouts.get(record.rollout_id)
    if known is not None and known.record.last_event_seq >= record.last_event_seq:
        return Done()
    objection = objection_to_record(record, manifest, state.hostname, now)
    if objection is None:
        objection = objection_to_release(
            manifest, state.hostname, state.newest_release.get(), state.rolled_back
        )
    if not state.is_fresh():
        # A journal that has a fact of its own was not replaced, and it knows better than any answer.
        objection = (
            f"{record.rollout_id}: expected at most fact "
            f"{0 if known is None else known.record.last_event_seq}, as in the journal, "
            f"found a record of {record.last_event_seq}"
        )
    if objection is not None:
        if state.objections.get(record.rollout_id) != objection:
            state.objections.set(record.rollout_id, objection)
            commit.afterwards(
                log_entry(LogLevel.ERROR, "the control plane's record is not taken over", objection)
            )
        return RequestRefused(record.rollout_id, objection)
    state.objections.discard(record.rollout_id)
    if _would_close_a_switch(state, record):
        return Done()  # The heartbeat brings the record again.
    record = _with_signed_soak(record, manifest, now)
    _put_taken_over(state, commit, record, manifest.rollout_policy, now)
    state.obey(commit, release_of(manifest))
    if state.rollouts[record.rollout_id].closed_at is not None:
        return Done()
    for effect in rehydration_effects(record):
        apply(effect, state, commit, now)
    if record.state is HostState.ACTIVATING:
        # Decided, and not known to have ended; carrying it out again is idempotent.
        intent = state.add_intent(
            commit, IntentKind.SWITCH, record.rollout_id, record.target_closure
        )
        commit.afterwards(CarryOut(intent))
    elif record.state is HostState.SOAKING or state.is_watched(state.rollouts[record.rollout_id]):
        commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))
    return Done()


def _would_close_a_switch(state: State, record: HostRolloutState) -> bool:
    """Return whether `record` would close another rollout whose switch is under way: it would still be carried out."""
    under_way = filter(state.is_under_way, state.intents.values())
    switching = {intent.rollout_id for intent in under_way} - {record.rollout_id}
    return any(
        _began(other.record) <= _began(record)
        for other in state.open_rollouts()
        if other.record.rollout_id in switching
    )


def _put_taken_over(
    state: State,
    commit: CommitBuilder,
    record: HostRolloutState,
    policy: RolloutPolicy,
    now: datetime,
) -> None:
    """Put the record; only the latest rollout stays open, since an older one would switch the host back."""
    is_latest = True
    for other in state.open_rollouts():
        if other.record.rollout_id == record.rollout_id:
            continue
        if _began(other.record) > _began(record):
            is_latest = False
        else:
            state.close_rollout(commit, other, now)
    known = state.rollouts.get(record.rollout_id)
    closed_at = None if known is None else known.closed_at
    taken = LocalRollout(
        record,
        policy,
        closed_at if is_latest else closed_at or now,
        taken_over_seq=record.last_event_seq,
    )
    state.put_rollout(commit, taken)


def _began(record: HostRolloutState) -> datetime:
    """Return when the control plane dispatched it, by its own clock; always set, except in the type."""
    return record.dispatched_at or datetime.min.replace(tzinfo=UTC)


def note_refusal(state: State, commit: CommitBuilder, input: EventRejected, now: datetime) -> None:
    """Mark the row as refused; a host whose convergence was refused soaks again."""
    commit.write(MarkRefused(input.row_id, input.refusal.reason))
    rollout = state.rollouts.get(RolloutId(input.refusal.rollout_id))
    if rollout is None or rollout.closed_at is not None:
        return
    record = rollout.record
    if record.state is HostState.CONVERGED and record.last_event_seq == input.refusal.seq:
        _soak_again(state, commit, record, now)


def _soak_again(
    state: State, commit: CommitBuilder, record: HostRolloutState, now: datetime
) -> None:
    """Return to the soak that the control plane still has on record, for a whole window from now.

    The control plane may have lost its database and dispatched again while the host followed the earlier dispatch.
    Its window began before now, so the next convergence is late enough. No event of the host machine leads out of
    Converged, and none should: this is a correction of the record, as in `take_over`.
    """
    window = abs((record.soak_due_at or now) - (record.dispatched_at or now))
    again = evolve(
        record,
        state=HostState.SOAKING,
        converged_at=None,
        dispatched_at=now,
        soak_due_at=now + window,
    )
    state.put_record(commit, again)
    known = state.observed.get(record.rollout_id, Observed())
    state.observed.set(record.rollout_id, judged_anew(known))
    about = f"{record.rollout_id}, until {again.soak_due_at}"
    commit.afterwards(log_entry(LogLevel.WARNING, "convergence refused, soaking again", about))
    commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))


def _with_signed_soak(
    record: HostRolloutState, manifest: RolloutManifest, now: datetime
) -> HostRolloutState:
    """Return `record` with the signed soak. That it passes is observed here again, as are the probes."""
    minutes = manifest.soak_minutes_of(record.hostname)
    if minutes is None:
        return record
    dispatched_at = record.dispatched_at or now
    soak_due_at = dispatched_at + timedelta(minutes=minutes)
    return evolve(record, dispatched_at=dispatched_at, soak_due_at=soak_due_at)


def replay(
    state: State, commit: CommitBuilder, input: ReplayAsked, now: datetime
) -> Done | RequestRefused:
    """Send again the facts that the control plane lacks, if the journal has them."""
    rollout_id = next((r for r in state.rollouts if r == input.replay.rollout_id), None)
    if rollout_id is None:
        return Done()
    rollout, first = state.rollouts[rollout_id], input.replay.first_missing_seq
    if not 1 <= first <= rollout.record.last_event_seq:
        about = f"{rollout_id}: expected a number from 1 to {rollout.record.last_event_seq}, found {first}"
        message = "asked to send again what the journal cannot have"
        commit.afterwards(log_entry(LogLevel.WARNING, message, about))
        return RequestRefused(rollout_id, f"{message}: {about}")
    if first <= rollout.taken_over_seq:
        _set_aside_lost(state, commit, rollout_id, now)
        return Done()
    commit.write(MarkUnsent(rollout_id, first))
    commit.afterwards(WakeSender())
    return Done()


def _set_aside_lost(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> None:
    """Set aside a rollout whose first facts both sides have lost, so that it can be dispatched again."""
    under_way = filter(state.is_under_way, state.intents.values())
    if any(intent.rollout_id == rollout_id for intent in under_way):
        return  # The control plane asks again once the switch or rollback has ended.
    message = "set aside, since both sides have lost its first facts; it can be dispatched again"
    commit.afterwards(log_entry(LogLevel.ERROR, message, rollout_id))
    commit.afterwards(StopProbes(rollout_id))
    state.set_rollout_aside(commit, rollout_id, now)


def forget_disowned(state: State, commit: CommitBuilder, rollout_id: RolloutId) -> None:
    """Remove a rollout after its retention, although the control plane never accepted its facts."""
    message = "removed with unsent facts, since the control plane does not know the rollout"
    commit.afterwards(log_entry(LogLevel.WARNING, message, rollout_id))
    state.remove_rollouts(commit, [rollout_id])


def log_entry(level: LogLevel, message: str, about: object) -> EmitLog:
    """Return an entry for the agent's log."""
    return EmitLog(level, "nixfleet_agent.engine.engine", message, (("about", str(about)),))
