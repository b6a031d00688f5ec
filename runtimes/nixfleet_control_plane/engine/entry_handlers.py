"""The books: for each kind of log entry the one method that carries it out on the state.

Nothing is decided here. The engine decides which entry comes next; live, in a replay and in a check the same
method carries it out, so the views cannot come to differ from the log. `replay` is the door for entries
that are in the log already.
Source: docs/spec/runtimes.md, Control plane.
"""

from datetime import datetime
from typing import assert_never

from attrs import evolve

from nixfleet_control_plane.engine.applier import apply, apply_to_rollout
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.host_mirror import passed_over, told_record
from nixfleet_control_plane.engine.state import KeptFleet, KeptManifest, State
from nixfleet_control_plane.messages.inputs import (
    ClearRollout,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce, nonce_kept_until
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    FactRefused,
    FactReported,
    HostEnrolled,
    LoggedEntry,
    Planned,
    RolloutMoved,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import (
    decode_bootstrap_nonces,
    decode_fleet,
    decode_manifest,
    decode_revocations,
)
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.host.effect import RemoteOpenRolloutRecord, RemoteQueueDispatch
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import RolloutEvent, RolloutOpened, subject_of
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState


def replay(state: State, commit: CommitBuilder, logged: LoggedEntry) -> None:
    """Carry out what `logged` says happened. Raises what the reducers raise if it could not have."""
    entry = logged.entry
    match entry:
        case FactReported():
            record = _record(state, entry)
            take_fact(state, commit, record, entry.fact, entry.signature, logged.at)
        case FactRefused():
            pass_over_fact(state, commit, entry, logged.at)
        case RolloutMoved():
            move_rollout(state, commit, entry.event, logged.at)
        case Planned():
            carry_out_plan(state, commit, entry, logged.at)
        case Deferred():
            defer(state, commit, entry.action, logged.at)
        case Commanded():
            obey(state, commit, entry, logged.at)
        case ArtefactTaken():
            take_artefact(state, commit, entry, logged.at)
        case ArtefactRefused():
            state.append(commit, entry, logged.at)
        case HostEnrolled():
            enroll(state, commit, entry, logged.at)
        case _:
            assert_never(entry)


def take_fact(
    state: State,
    commit: CommitBuilder,
    record: HostRolloutState,
    fact: AgentEvent,
    signature: str | None,
    at: datetime,
) -> None:
    """A host's `record` takes a fact. Raises: TransitionError, and nothing has changed."""
    key = record.rollout_id, record.hostname
    policy = state.manifests[record.rollout_id].manifest.rollout_policy
    after, effects = told_record(record, fact, at, policy)
    for effect in effects:
        apply(effect, state, commit, at, signature)
    state.put_host(after)
    if record.dispatch_acked_at is None:
        # Whatever the host said first, it has its dispatch.
        state.remove_dispatch(commit, key)
        state.remove_deferral(commit, key)


def pass_over_fact(state: State, commit: CommitBuilder, entry: FactRefused, at: datetime) -> None:
    """A host's record takes the number of a fact that does not apply, so that those after it can come."""
    record = _record(state, entry)
    seq = state.append(commit, entry, at)
    state.put_host(passed_over(record, entry.fact.seq))
    state.refuse_fact(commit, (entry.rollout_id, entry.host), entry.fact.seq, entry.reason, seq)


def move_rollout(state: State, commit: CommitBuilder, event: RolloutEvent, at: datetime) -> None:
    """A rollout's record takes an event; a row is written if that changed it."""
    record = state.view.rollouts[subject_of(event)]
    after, effects = step_rollout(record, event, at)
    if after is record and not effects:
        return
    seq = state.append(commit, RolloutMoved(event), at)
    if after.state is not record.state:
        after = evolve(after, last_transition_event_log_seq=seq)
        # A halt that was cleared had announced its pruning; whatever comes to rest announces it anew.
        state.cancel_pruning(record.rollout_id)
    if record.state.is_live and not after.state.is_live:
        state.remove_deferrals(commit, record.rollout_id)
    if after.state is RolloutState.PRUNED:
        state.forget_rollout(commit, after)
    else:
        state.put_rollout(commit, after)
    for effect in effects:
        apply_to_rollout(effect, state, commit, at)


def carry_out_plan(state: State, commit: CommitBuilder, entry: Planned, at: datetime) -> None:
    """The planner's decision happens. Raises: SupersessionExpected."""
    seq = state.append(commit, entry, at)
    action = entry.action
    match action:
        case OpenRollout():
            _open(state, commit, action, seq, at)
        case QueueDispatch():
            apply(
                RemoteQueueDispatch(
                    action.host, action.rollout_id, action.target_closure, action.soak_due_at
                ),
                state,
                commit,
                at,
            )
        case WithdrawDispatch():
            state.remove_dispatch(commit, (action.rollout_id, action.host))
        case _:
            assert_never(action)


def defer(state: State, commit: CommitBuilder, action: DeferDispatch, at: datetime) -> None:
    """A host waits for a new reason."""
    state.append(commit, Deferred(action), at)
    state.put_deferral(commit, action, at)


def obey(state: State, commit: CommitBuilder, entry: Commanded, at: datetime) -> None:
    """An operator's command happens. What it means for the rollout's record is an event of its own."""
    seq = state.append(commit, entry, at)
    command = entry.command
    match command:
        case PauseScope():
            state.hold(commit, command, at)
        case ResumeScope():
            state.release(commit, command.scope)
        case RetireQuarantine():
            state.retire_quarantine(commit, command.channel, command.closure, cleared_by=seq)
        case ClearRollout():
            pass  # OperatorClearance follows, as a rollout event.
        case _:
            assert_never(command)


def take_artefact(state: State, commit: CommitBuilder, entry: ArtefactTaken, at: datetime) -> None:
    """A verified artefact is in force from here on."""
    state.append(commit, entry, at)
    put_artefact(state, commit, entry)
    if entry.rollout_id is not None:
        state.remove_unused_artefacts(commit)


def put_artefact(state: State, commit: CommitBuilder, entry: ArtefactTaken) -> None:
    """As `take_artefact`, for one that is in the log already."""
    body = entry.body.encode()
    if entry.rollout_id is not None:
        artefact = SignedArtefact(body, bytes.fromhex(entry.signature))
        state.put_manifest(commit, entry.rollout_id, _kept_manifest(state, artefact))
    elif entry.name == REVOCATIONS_FILE:
        state.put_revocations(commit, decode_revocations(body))
    elif entry.name == NONCES_FILE:
        state.put_nonces(commit, decode_bootstrap_nonces(body))
    else:
        state.put_fleet(commit, artefact_hash(body), KeptFleet(entry.name, decode_fleet(body)))


def enroll(state: State, commit: CommitBuilder, entry: HostEnrolled, at: datetime) -> None:
    """A host is known by its key from here on."""
    seq = state.append(commit, entry, at)
    token, key = entry.token.token, TrustedKey(entry.public_key)
    kept_until = nonce_kept_until(token, state.identities.nonces.get())
    state.identities.enroll(
        commit,
        EnrolledHost(token.hostname, key, at),
        UsedNonce(token.nonce, token.hostname, key, kept_until),
        seq,
    )


def _record(state: State, entry: FactReported | FactRefused) -> HostRolloutState:
    record = state.view.host(entry.rollout_id, entry.host)
    assert record is not None, entry
    return record


def _kept_manifest(state: State, artefact: SignedArtefact) -> KeptManifest:
    """Return what a manifest says and means, given the fleet it is anchored in, which is in force."""
    manifest = decode_manifest(artefact.body)
    fleet = state.fleets[manifest.fleet_resolved_hash].fleet
    return KeptManifest(manifest, RolloutTerms.of_values(manifest, fleet), artefact)


def _open(state: State, commit: CommitBuilder, action: OpenRollout, seq: int, at: datetime) -> None:
    opened = RolloutOpened(action.rollout_id, action.channel, action.target_ref, at)
    record: RolloutRecord = open_rollout(opened, seq, state.view.rollouts_of(action.channel))
    terms = state.manifests[action.rollout_id].terms
    state.open_rollout(commit, record, terms)
    for host in terms.targets:
        apply(RemoteOpenRolloutRecord(action.rollout_id, action.channel, host), state, commit, at)
