"""One function per kind of log entry, which applies the entry to the state.

Nothing is decided here: the engine decides which entry comes next. The same function applies it live, in a replay and
in a check, so the views cannot diverge from the log. `replay` applies entries that are already in the log.
Source: docs/spec/runtimes.md, Control plane.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

from attrs import evolve

from nixfleet_control_plane.engine.applier import apply, apply_to_rollout
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.fact_fold import FactFold
from nixfleet_control_plane.engine.host_record import retried_record
from nixfleet_control_plane.engine.operator_holds import resumed
from nixfleet_control_plane.engine.state import CONTRADICTION, LoadedFleet, LoadedManifest, State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    PauseScope,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
    operator_source,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce, nonce_kept_until
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    Deferred,
    EnrollmentSeen,
    FactRefused,
    FactReported,
    FactsReported,
    Followed,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    Line,
    LoggedEntry,
    Planned,
    Returned,
    RolloutMoved,
    line_of_fact,
)
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import (
    decode_bootstrap_nonces,
    decode_fleet,
    decode_manifest,
    decode_revocations,
)
from nixfleet_proto.codec.warrant import decode_signed_warrant
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import artefact_hash
from nixfleet_proto.trust import TrustedKey
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE
from nixfleet_state_machine.host.effect import (
    RemoteOpenRolloutRecord,
    RemoteQueueDispatch,
)
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.holds.hold import Hold, HoldBegan, HoldEnded, HoldEvent
from nixfleet_state_machine.planner.holds.scope import HostScope
from nixfleet_state_machine.planner.quarantining import reverted_closures
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
    subject_of,
)
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from nixfleet_state_machine.shards.channel_seen import ChannelSeen


class FleetMissing(NixfleetError):
    """The fleet that a manifest is anchored in is not in force. Attributes: `rollout_id`, `fleet_hash`."""

    def __init__(self, rollout_id: RolloutId, fleet_hash: str) -> None:
        super().__init__(rollout_id, fleet_hash)
        self.rollout_id = rollout_id
        self.fleet_hash = fleet_hash

    def __str__(self) -> str:
        return f"the manifest of {self.rollout_id} is anchored in the fleet {self.fleet_hash}, which is not in force"


def replayed(state: State, commit: CommitBuilder, logged: LoggedEntry) -> Iterator[Line]:
    """As `replay`; yield what the row says one line at a time, each right after it was applied."""
    entry = logged.entry
    if isinstance(entry, FactsReported):
        yield from taken_lines(state, commit, entry, logged.at)
    else:
        replay(state, commit, logged)
        yield entry


def replay(state: State, commit: CommitBuilder, logged: LoggedEntry) -> None:
    """Apply a logged entry to `state`. Raises: what the reducers raise when the entry does not apply."""
    entry = logged.entry
    match entry:
        case FactsReported():
            take_facts(state, commit, entry, logged.at)
        case FactReported():
            take_fact(state, commit, entry, logged.at)
        case FactRefused():
            skip_fact(state, commit, entry, logged.at)
        case IdentityForked():
            fork(state, commit, entry, logged.at)
        case RolloutMoved():
            move_rollout(state, commit, entry.event, logged.at)
        case Planned():
            carry_out_plan(state, commit, entry, logged.at)
        case Deferred():
            defer(state, commit, entry.action, logged.at)
        case Returned():
            return_slots(state, commit, entry, logged.at)
        case HoldMoved():
            move_hold(state, commit, entry.event, logged.at)
        case Commanded():
            apply_command(state, commit, entry, logged.at)
        case ArtefactTaken():
            take_artefact(state, commit, entry, logged.at)
        case ArtefactRefused():
            state.append(commit, entry, logged.at)
        case HostEnrolled():
            enroll(state, commit, entry, logged.at)
        case Followed():
            follow(state, commit, entry, logged.at)
        case _:
            assert_never(entry)


def take_facts(state: State, commit: CommitBuilder, entry: FactsReported, at: datetime) -> None:
    """Apply what a host reported in one request to its record. Raises: TransitionError."""
    seq = state.append(commit, entry, at)
    fold = FactFold(state, commit, _record(state, entry), at)
    for fact in entry.facts:
        _fold(fold, entry, fact, seq)
    fold.put()


def taken_lines(
    state: State, commit: CommitBuilder, entry: FactsReported, at: datetime
) -> Iterator[FactReported | FactRefused]:
    """As `take_facts`; yield each fact right after it was applied, with the host's record as it was then."""
    seq = state.append(commit, entry, at)
    fold = FactFold(state, commit, _record(state, entry), at)
    for fact in entry.facts:
        _fold(fold, entry, fact, seq)
        fold.put()
        yield line_of_fact(entry, fact)


def _fold(fold: FactFold, entry: FactsReported, fact: AgentEvent, seq: int) -> None:
    reason = entry.refused.get(fact.seq)
    if reason is None:
        fold.take(fact, seq)
    else:
        fold.skip(fact, reason, seq)


def take_fact(state: State, commit: CommitBuilder, entry: FactReported, at: datetime) -> None:
    """Apply a fact of a log of format 1. Raises: TransitionError."""
    fold = FactFold(state, commit, _record(state, entry), at)
    fold.take(entry.fact, state.append(commit, entry, at))
    fold.put()


def skip_fact(state: State, commit: CommitBuilder, entry: FactRefused, at: datetime) -> None:
    """Pass over a fact that was refused in a log of format 1."""
    fold = FactFold(state, commit, _record(state, entry), at)
    fold.skip(entry.fact, entry.reason, state.append(commit, entry, at))
    fold.put()


def fork(state: State, commit: CommitBuilder, entry: IdentityForked, at: datetime) -> None:
    """Hold a host that contradicted itself, until an operator resumes it or it enrolls anew."""
    state.append(commit, entry, at)
    state.hold(commit, Hold(HostScope(entry.host), CONTRADICTION, entry.reason), at)


def move_rollout(state: State, commit: CommitBuilder, event: RolloutEvent, at: datetime) -> None:
    """Apply an event to a rollout's record; log it if the record changed or effects follow, or the terms change."""
    record = state.view.rollouts[subject_of(event)]
    after, effects = step_rollout(record, event, at)
    if after is record and not effects and not isinstance(event, MembersChanged):
        return
    seq = state.append(commit, RolloutMoved(event), at)
    if after.state is not record.state:
        after = evolve(after, last_transition_event_log_seq=seq)
        # A halt schedules pruning; clearing it cancels that. Reaching a resting state schedules pruning again.
        state.cancel_pruning(record.rollout_id)
    is_served_no_more = record.state.is_served and not after.state.is_served
    if is_served_no_more or (record.state.is_live and not after.state.is_live):
        # Of a Terminal rollout late hosts are planned for again, and get their deferrals anew.
        state.remove_deferrals(commit, record.rollout_id)
    if is_served_no_more:
        state.end_warrants(record.rollout_id)
    if is_served_no_more and record.rollout_id in state.manifests:
        # Locks are asked anew about what takes over: what they said of the release before holds no fix. Of a rollout
        # whose manifest is missing the hosts are not known: their holds end by themselves.
        targets = state.view.terms(record.rollout_id).targets
        for hostname in state.hosts_held_by_devices():
            if hostname in targets:
                state.end_device_hold(commit, hostname)
    if after.state is RolloutState.PRUNED:
        state.forget_rollout(commit, after)
    else:
        state.put_rollout(commit, after)
    for effect in effects:
        apply_to_rollout(effect, state, commit, at)
    _follow_up(state, commit, event, at)


def _follow_up(state: State, commit: CommitBuilder, event: RolloutEvent, at: datetime) -> None:
    """Change what belongs to the hosts that an event is about."""
    match event:
        case HostsLapsed():
            if event.withdraws:
                _withdraw(state, commit, event.rollout_id, event.hosts)
        case StandingChanged():
            if event.standing.is_silent:
                _withdraw(state, commit, event.rollout_id, event.hosts)
        case MembersChanged():
            _amend(state, commit, event, at)
        case RetryOrdered():
            for hostname in event.hosts:
                record = state.view.host(event.rollout_id, hostname)
                assert record is not None, event
                state.put_host(retried_record(record))
        case WaveBroken():
            channel = state.view.rollouts[event.rollout_id].channel
            for closure in reverted_closures(state.view, event.rollout_id):
                state.quarantine(commit, channel, closure, at, triggered_by=state.head_seq)
        case (
            RolloutOpened()
            | HostJoined()
            | HostStateChanged()
            | WaveAdvanced()
            | RolloutTerminal()
            | SuccessorOpened()
            | RetentionExpired()
            | OperatorClearance()
            | HostDrifted()
            | DriftEnded()
            | RolloutAborted()
            | GuardsOpened()
            | Verdict()
        ):
            pass
        case _:
            assert_never(event)


def _amend(state: State, commit: CommitBuilder, event: MembersChanged, at: datetime) -> None:
    """Let go of the hosts that left, and open the records of those that joined: the manifest was taken just before."""
    rollout_id = event.rollout_id
    _withdraw(state, commit, rollout_id, event.left)
    for hostname in event.left:
        state.forget_host(commit, (rollout_id, hostname))
    state.view.amend(state.manifests[rollout_id].terms)
    state.ways_back.discard(rollout_id)
    channel = state.view.rollouts[rollout_id].channel
    for hostname in event.joined:
        apply(RemoteOpenRolloutRecord(rollout_id, channel, hostname), state, commit, at)


def _withdraw(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, hosts: tuple[str, ...]
) -> None:
    for hostname in hosts:
        state.remove_dispatch(commit, (rollout_id, hostname))
        state.remove_deferral(commit, (rollout_id, hostname))


def carry_out_plan(state: State, commit: CommitBuilder, entry: Planned, at: datetime) -> None:
    """Carry out a decision of the planner. Raises: SupersessionExpected."""
    seq = state.append(commit, entry, at)
    action = entry.action
    match action:
        case OpenRollout():
            _open(state, commit, action, seq, at)
        case QueueDispatch():
            apply(
                RemoteQueueDispatch(
                    action.host,
                    action.rollout_id,
                    action.target_closure,
                    action.soak_due_at,
                    action.attempt,
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
    """Record a new reason why a host is held."""
    state.append(commit, Deferred(action), at)
    state.put_deferral(commit, action, at)


def return_slots(state: State, commit: CommitBuilder, entry: Returned, at: datetime) -> None:
    """Give the slots of beginnings back whose minute is over."""
    state.append(commit, entry, at)
    state.return_slots(commit, entry.event.budget, entry.event.begun_by)


def move_hold(state: State, commit: CommitBuilder, event: HoldEvent, at: datetime) -> None:
    """Begin or end a hold by the passing of time, and log it."""
    state.append(commit, HoldMoved(event), at)
    match event:
        case HoldBegan():
            state.hold(commit, event.hold, at)
        case HoldEnded():
            state.release(commit, event.scope, event.source)
        case _:
            assert_never(event)


def apply_command(state: State, commit: CommitBuilder, entry: Commanded, at: datetime) -> None:
    """Carry out an operator's command. Its effect on a rollout's record is a separate event."""
    seq = state.append(commit, entry, at)
    command = entry.command
    match command:
        case PauseScope() | PlaceHold():
            until = command.until if isinstance(command, PlaceHold) else None
            source = operator_source(command.operator)
            state.hold(commit, Hold(command.scope, source, command.reason, until), at)
        case ReleaseHold():
            state.release(commit, command.scope, command.source)
        case ResumeScope():
            for hold in resumed(state, command):
                state.release(commit, *hold.key)
            if isinstance(command.scope, HostScope):
                state.forgive(commit, command.scope.hostname, seq)
        case RetireQuarantine():
            state.retire_quarantine(commit, command.channel, command.closure, cleared_by=seq)
        case RelayWarrant():
            state.forget_expired_warrants(commit, at)
            state.relay(commit, decode_signed_warrant(command.warrant.encode()), seq)
        case ClearRollout() | ExcuseHosts() | SkipHosts() | RetryHosts() | AbortRollout():
            pass  # The events of the rollout follow.
        case _:
            assert_never(command)


def take_artefact(state: State, commit: CommitBuilder, entry: ArtefactTaken, at: datetime) -> None:
    """Put a verified artefact in force and log it."""
    state.append(commit, entry, at)
    put_artefact(state, commit, entry)
    if entry.rollout_id is not None:
        state.remove_unused_artefacts(commit)


def put_artefact(state: State, commit: CommitBuilder, entry: ArtefactTaken) -> None:
    """As `take_artefact`, for an artefact that is already in the log. Raises: FleetMissing."""
    body = entry.body.encode()
    if entry.rollout_id is not None:
        artefact = SignedArtefact(body, bytes.fromhex(entry.signature))
        state.put_manifest(commit, entry.rollout_id, _load_manifest(state, artefact))
    elif entry.name == REVOCATIONS_FILE:
        state.put_revocations(commit, decode_revocations(body))
    elif entry.name == NONCES_FILE:
        state.put_nonces(commit, decode_bootstrap_nonces(body))
    else:
        state.put_fleet(commit, artefact_hash(body), LoadedFleet(entry.name, decode_fleet(body)))


def enroll(state: State, commit: CommitBuilder, entry: HostEnrolled, at: datetime) -> None:
    """Enroll a host with its key."""
    seq = state.append(commit, entry, at)
    token, key = entry.token.token, TrustedKey(entry.public_key)
    _begin_anew(state, commit, token.hostname, seq)
    kept_until = nonce_kept_until(token, state.identities.nonces.get())
    state.identities.enroll(
        commit,
        EnrolledHost(token.hostname, key, at),
        UsedNonce(token.nonce, token.hostname, key, kept_until),
        seq,
    )
    state.hold_if_revoked(token.hostname)


def follow(state: State, commit: CommitBuilder, entry: Followed, at: datetime) -> None:
    """Take a fact of the log of another shard."""
    seq = state.append(commit, entry, at)
    seen = entry.seen
    match seen:
        case ChannelSeen():
            state.see_channel(commit, seen)
        case EnrollmentSeen():
            _begin_anew(state, commit, seen.hostname, seq)
            host = EnrolledHost(seen.hostname, TrustedKey(seen.public_key), seen.enrolled_at)
            state.identities.enroll_there(commit, host, seq)
            state.hold_if_revoked(seen.hostname)
        case _:
            assert_never(seen)


def _begin_anew(state: State, commit: CommitBuilder, hostname: str, seq: int) -> None:
    """A host that enrolls is let go on, whatever it contradicted before."""
    if hostname in state.forked:
        state.release(commit, HostScope(hostname), CONTRADICTION)
        state.forgive(commit, hostname, seq)
    # The machine may have another lock now, or none: it says so when it is dispatched.
    state.end_device_hold(commit, hostname)


def _record(state: State, entry: FactsReported | FactReported | FactRefused) -> HostRolloutState:
    record = state.view.host(entry.rollout_id, entry.host)
    assert record is not None, entry
    return record


def _load_manifest(state: State, artefact: SignedArtefact) -> LoadedManifest:
    """Return the manifest decoded, with its terms. Raises: FleetMissing, if the fleet that it is anchored in is not in
    force.
    """
    manifest = decode_manifest(artefact.body)
    loaded = state.fleets.get(manifest.fleet_resolved_hash)
    if loaded is None:
        raise FleetMissing(manifest.rollout_id, manifest.fleet_resolved_hash)
    return LoadedManifest(manifest, RolloutTerms.of_values(manifest, loaded.fleet), artefact)


def _open(state: State, commit: CommitBuilder, action: OpenRollout, seq: int, at: datetime) -> None:
    opened = RolloutOpened(action.rollout_id, action.channel, action.target_ref, at)
    terms = state.manifests[action.rollout_id].terms
    record: RolloutRecord = open_rollout(
        opened,
        seq,
        state.view.rollouts_of(action.channel),
        is_guarded=terms.guards_of(0).is_declared,
    )
    state.open_rollout(commit, record, terms)
    for host in terms.targets:
        apply(RemoteOpenRolloutRecord(action.rollout_id, action.channel, host), state, commit, at)
