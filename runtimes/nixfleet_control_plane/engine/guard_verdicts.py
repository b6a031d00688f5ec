"""What judges say of the guards of a wave, taken into the log: operators' statements, and the answers to checks.

Each is one `Verdict`, and the rollout then goes on as far as it may. What would change nothing is not logged, so that
a judge who is asked for days fills no log.
Source: docs/spec/guards.md.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import frozen

from nixfleet_control_plane.engine.approval_checks import (
    approval_objection,
    is_repeated,
    verdicts_of,
)
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import move_rollout
from nixfleet_control_plane.engine.rollout_course import advance, count_verdict
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    CheckQuestion,
    CommandOutcome,
    GiveApproval,
    ReportVerdict,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import Check, WaveGuards
from nixfleet_proto.trust import TrustRoot
from nixfleet_state_machine.planner.guards.states import (
    GuardedWave,
    broken_wave,
    guards_of_wave,
    is_news,
    next_guards,
)
from nixfleet_state_machine.rollout.event import Verdict
from nixfleet_state_machine.rollout.state import RolloutState

REASON_LENGTH_MAX = 500
"""What is kept of the reason and of the evidence of an answer."""


@frozen
class AskedCheck:
    """A check whose judge is to be asked. since: the last answer, or when it was asked for first."""

    question: CheckQuestion
    check: Check
    since: datetime
    is_answered: bool


@frozen
class GuardedRollout:
    """How the guards of the next wave stand, or of the one that a guard broke.

    declared: what the wave declares. manifest_hash: what is approved. author: of the manifest, who does not approve it.
    """

    guarded: GuardedWave
    declared: WaveGuards
    manifest_hash: str
    author: str | None = None


def give_approval(
    state: State, commit: CommitBuilder, given: GiveApproval, trust: TrustRoot | None, now: datetime
) -> CommandOutcome:
    """Take an operator's statement, if it is good; once is as good as twice."""
    objection = approval_objection(state, given.signed, trust, now)
    if objection is not None:
        return CommandOutcome(objection)
    approval = given.signed.approval
    if is_repeated(state, approval):
        said = (
            f"{approval.operator} has stated that of wave {approval.wave} before: nothing changes"
        )
        return CommandOutcome(note=said)
    for verdict in verdicts_of(state, given.signed, now):
        move_rollout(state, commit, verdict, now)
        count_verdict(commit, verdict)
    advance(state, commit, approval.rollout_id, now)
    return CommandOutcome()


def report_verdict(
    state: State, commit: CommitBuilder, reported: ReportVerdict, now: datetime
) -> None:
    """Take the answer of a judge, if its question is still asked."""
    question = reported.question
    rollout_id, wave = question.rollout_id, question.wave
    asked = {each.question: each.check for each in _asked_of(state, rollout_id)}
    check = asked.get(question)
    if check is None:
        return
    tally = state.view.rollouts[rollout_id].guard_tally(wave, check.name)
    if not is_news(check.quorum, tally, reported.outcome):
        return
    verdict = Verdict(
        rollout_id,
        wave,
        check.name,
        check.judge,
        reported.outcome,
        reported.reason[:REASON_LENGTH_MAX],
        now,
        reported.evidence[:REASON_LENGTH_MAX],
    )
    move_rollout(state, commit, verdict, now)
    count_verdict(commit, verdict)
    advance(state, commit, rollout_id, now)


def asked_checks(state: State) -> tuple[AskedCheck, ...]:
    """Return the checks whose judges are to be asked, by rollout: also those that are satisfied, until the wave begins.

    O(rollouts).
    """
    return tuple(
        asked for rollout_id in state.view.live_rollouts() for asked in _asked_of(state, rollout_id)
    )


def guarded_rollout(state: State, rollout_id: RolloutId) -> GuardedRollout | None:
    """Return how the guards of the next wave of a rollout stand, or of the wave that one of them broke.

    `None`: it has none, or does not go on and never will, as one that was aborted.
    """
    record = state.view.rollouts.get(rollout_id)
    if record is None or rollout_id not in state.view.open_rollouts or not record.state.is_live:
        return None
    if record.state is RolloutState.ABORTED:
        return None
    terms = state.view.terms(rollout_id)
    guarded = broken_wave(record, terms) or next_guards(record, terms)
    if guarded is None:
        return None
    return _guarded(state, guarded, rollout_id)


def wave_guards(state: State, rollout_id: RolloutId, wave: int) -> GuardedRollout | None:
    """Return how the guards of a wave of an open rollout stand that has not begun; `None`: it has none."""
    record, terms = state.view.rollout(rollout_id), state.view.terms(rollout_id)
    guarded = guards_of_wave(record, terms, wave)
    return None if guarded is None else _guarded(state, guarded, rollout_id)


def _guarded(state: State, guarded: GuardedWave, rollout_id: RolloutId) -> GuardedRollout:
    manifest, declared = state.manifests[rollout_id], state.view.terms(rollout_id)
    author = manifest.manifest.meta.author
    return GuardedRollout(guarded, declared.guards_of(guarded.wave), manifest.body_hash, author)


def authors(state: State) -> Mapping[RolloutId, str]:
    """Return the authors that the manifests of the live rollouts name, who do not approve them. O(rollouts)."""
    named = {it: state.manifests[it].manifest.meta.author for it in state.view.live_rollouts()}
    return {rollout_id: author for rollout_id, author in named.items() if author is not None}


def guards_open(state: State) -> int:
    """Return how many guards hold a wave of which the wave before is done. O(rollouts)."""
    rollouts = (guarded_rollout(state, each) for each in state.view.live_rollouts())
    asked = (each.guarded for each in rollouts if each and each.guarded.since is not None)
    return sum(not guard.state.lets_begin for guarded in asked for guard in guarded.guards)


def _asked_of(state: State, rollout_id: RolloutId) -> Iterator[AskedCheck]:
    record = state.view.rollouts.get(rollout_id)
    if record is None or record.guarded_since is None or not record.state.is_live:
        return
    if record.state.is_halted or rollout_id not in state.view.open_rollouts:
        return
    wave = record.current_wave + 1
    since, signature = (
        record.last_transition_event_log_seq,
        state.manifests[rollout_id].artefact.signature,
    )
    for check in state.view.terms(rollout_id).guards_of(wave).checks:
        question = CheckQuestion(rollout_id, wave, check.name, since, signature)
        tally = record.guard_tally(wave, check.name)
        if tally is None:
            yield AskedCheck(question, check, record.guarded_since, is_answered=False)
        elif tally.waived_by is None:
            yield AskedCheck(question, check, tally.at, is_answered=True)
