"""When the agent and its control plane do not remember the same: one lost its disk, or a fact was not taken.

Each function brings the two together with the least that will do. No fact is lived here: a record is taken over, put
back or forgotten, rows are sent again, and the log says so. The facts that follow are the engine's.
Source: docs/spec/runtimes.md, Journal; docs/spec/runtimes.md, Boot.
"""

from datetime import UTC, datetime

from attrs import evolve

from nixfleet_agent.engine.applier import apply
from nixfleet_agent.engine.manifest_agreement import objection_to_record
from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.messages.inputs import (
    CarryOut,
    EventRejected,
    IntentKind,
    LoadChecks,
    RecordBootstrapped,
    ReplayAsked,
    StopProbes,
    WakeSender,
)
from nixfleet_agent.messages.writes import MarkRefused, MarkUnsent
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.effect import EmitLog, LogLevel
from nixfleet_state_machine.host.reducer import rehydration_effects
from nixfleet_state_machine.host.state import HostRolloutState, HostState


def take_over(
    state: State, commit: CommitBuilder, input: RecordBootstrapped, now: datetime
) -> None:
    """Take over what the control plane remembers and the journal does not, and go on from there."""
    record = input.record
    known = state.rollouts.get(record.rollout_id)
    if known is not None and known.record.last_event_seq >= record.last_event_seq:
        return
    objection = objection_to_record(record, input.manifest.value, state.hostname)
    if objection is not None:
        commit.afterwards(said(LogLevel.ERROR, "what it remembers is not taken over", objection))
        return
    _put_taken(state, commit, record, input.manifest.value.rollout_policy, now)
    if state.rollouts[record.rollout_id].closed_at is not None:
        return
    for effect in rehydration_effects(record):
        apply(effect, state, commit, now)
    if record.state is HostState.ACTIVATING:
        # Decided and not known to be over; the activator does it once in effect.
        intent = state.add_intent(
            commit, IntentKind.SWITCH, record.rollout_id, record.target_closure
        )
        commit.afterwards(CarryOut(intent))
    elif record.state is HostState.SOAKING:
        commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))


def _put_taken(
    state: State,
    commit: CommitBuilder,
    record: HostRolloutState,
    policy: RolloutPolicy,
    now: datetime,
) -> None:
    """One rollout is open at a time, the latest: taken up, an older one would switch the host back."""
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
    """When the control plane decided on it, by its own clock; a record always says so, but for its type."""
    return record.dispatched_at or datetime.min.replace(tzinfo=UTC)


def note_refusal(state: State, commit: CommitBuilder, input: EventRejected, now: datetime) -> None:
    """Mark the row, and go on with the rest; a convergence that was refused is not the end of a rollout."""
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
    """Go back to the soak that the control plane still sees, for a whole window from now.

    It may have lost its database and dispatched anew while the host went by the dispatch from before. Its window
    began before now, so the next convergence is late enough. No event of the machine leads out of Converged, and
    none should: here the two records are brought together again, as when one is taken over.
    """
    window = (record.soak_due_at or now) - (record.dispatched_at or now)
    again = evolve(
        record, state=HostState.SOAKING, converged_at=None, soak_due_at=now + abs(window)
    )
    state.put_record(commit, again)
    about = f"{record.rollout_id}, until {again.soak_due_at}"
    commit.afterwards(said(LogLevel.WARNING, "its convergence was refused: it soaks again", about))
    commit.afterwards(LoadChecks(record.rollout_id, record.target_closure))


def replay(state: State, commit: CommitBuilder, input: ReplayAsked) -> None:
    """Send again what the control plane misses, if the journal has it."""
    rollout_id = next((r for r in state.rollouts if r == input.replay.rollout_id), None)
    if rollout_id is None:
        return
    if input.replay.first_missing_seq <= state.rollouts[rollout_id].taken_over_seq:
        _start_over(state, commit, rollout_id)
        return
    commit.write(MarkUnsent(rollout_id, input.replay.first_missing_seq))
    commit.afterwards(WakeSender())


def _start_over(state: State, commit: CommitBuilder, rollout_id: RolloutId) -> None:
    """Both sides have lost the beginning: nobody can tell it any more. The next dispatch begins anew."""
    if any(intent.rollout_id == rollout_id for intent in state.intents.values()):
        return  # It is asked for again when the act is over.
    message = "its beginning is lost on both sides, so it is forgotten and may be dispatched anew"
    commit.afterwards(said(LogLevel.ERROR, message, rollout_id))
    commit.afterwards(StopProbes(rollout_id))
    state.remove_rollouts(commit, [rollout_id])


def forget_disowned(state: State, commit: CommitBuilder, rollout_id: RolloutId) -> None:
    """Forget a rollout whose retention has passed: what nobody will ever take need not be kept for anybody."""
    message = (
        "forgotten with facts that the control plane did not take, as it does not know the rollout"
    )
    commit.afterwards(said(LogLevel.WARNING, message, rollout_id))
    state.remove_rollouts(commit, [rollout_id])


def said(level: LogLevel, message: str, about: object) -> EmitLog:
    """Return what the agent's log is told of what was decided."""
    return EmitLog(level, "nixfleet_agent.engine.engine", message, (("about", str(about)),))
