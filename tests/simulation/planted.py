"""Bugs planted in the production parts, as long as a patch lasts. A simulation that does not find them proves nothing.

Each is a function that plants one; its sentence says what goes wrong. The first seven are known ones of the public Rust
implementation.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, cast

import pytest
from attrs import evolve

from nixfleet_agent.engine import downgrade, manifest_agreement, observation, reconcile
from nixfleet_agent.engine import engine as agent_engine
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.handlers import offers, samples
from nixfleet_agent.engine.state import State as AgentState
from nixfleet_agent.messages.inputs import CarryOut, Done, IntentKind, RollbackEnded, StartProbes
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.probes import ProbeWorker
from nixfleet_agent.workers.steps import Lock, PollDispatch, Wait, Wakeup
from nixfleet_control_plane.engine import entry_handlers as books
from nixfleet_control_plane.engine import fact_intake
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.identity_state import Identities
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history import loading
from nixfleet_control_plane.messages.inputs import DispatchPoll
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import ClearProbeFailure
from nixfleet_proto.agent_event import RollbackComplete
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import artefact as signed_artefact
from nixfleet_runtime.transport import (
    EventsOutcome,
    HeartbeatReply,
    RolloutUnknown,
    TransportFailed,
)
from nixfleet_simulation.nodes.disk import Disk
from nixfleet_simulation.nodes.mutator import Mutator
from nixfleet_state_machine import undo
from nixfleet_state_machine.host import convergence, reducer
from nixfleet_state_machine.host.errors import ConvergenceRule
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner import gates, plan, progress
from nixfleet_state_machine.rollout import reducer as rollout_reducer
from nixfleet_state_machine.rollout.opening import open_rollout

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def _without(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Take gates away, wherever they are asked."""
    for tuple_name in ("GATES", "WITHDRAWING"):
        left = tuple(g for g in getattr(gates, tuple_name) if g.__name__ not in names)
        patch.setattr(gates, tuple_name, left)


# Known ones.


def acknowledges_before_it_commits(patch: pytest.MonkeyPatch) -> None:
    """The control plane answers a host before what it answered is durable."""
    settle_next = Mutator._settle_next

    def eager(self: Any) -> None:
        for batch in self._left:
            for entry in batch:
                if type(entry.input).__name__ == "HostEvents":
                    entry.then(EventsOutcome(len(entry.input.envelopes)))
                    entry.then = lambda _: None
        settle_next(self)

    patch.setattr(Mutator, "_settle_next", eager)


def deletes_a_dispatch_when_it_is_handed_out(patch: pytest.MonkeyPatch) -> None:
    """A dispatch leaves the queue before its acknowledgement is durable."""
    reply = ControlPlaneEngine._reply

    def hasty(self: Any, commit: Any, input: Any, now: datetime) -> Any:
        answer: Any = cast(Any, reply)(self, commit, input, now)
        if isinstance(input, DispatchPoll) and answer.dispatch is not None:
            key = RolloutId(answer.dispatch.rollout_id), input.hostname
            self._state.remove_dispatch(commit, key)
        return answer

    patch.setattr(ControlPlaneEngine, "_reply", hasty)


def drops_facts_while_manifests_are_missing(patch: pytest.MonkeyPatch) -> None:
    """What is reported of a rollout that is not known yet is acknowledged, and forgotten."""
    take = fact_intake._Intake.take

    def careless(self: Any, *arguments: Any) -> Any:
        refusal = take(self, *arguments)
        return None if isinstance(refusal, RolloutUnknown) else refusal

    patch.setattr(fact_intake._Intake, "take", careless)


def does_not_read_quarantines_back(patch: pytest.MonkeyPatch) -> None:
    """A restarted control plane hands out closures that rolled back."""
    load_views = loading._load_views
    patch.setattr(
        loading,
        "_load_views",
        lambda state, found: load_views(state, evolve(found, quarantines=())),
    )


def does_not_honour_a_halt(patch: pytest.MonkeyPatch) -> None:
    """A rollout that failed dispatches on."""
    _without(patch, "gate_rollout_halted")


def takes_the_rollback_target_from_its_books(patch: pytest.MonkeyPatch) -> None:
    """A host goes back to what it should have run, not to what ran when it acknowledged."""
    consider = offers.consider

    def bookish(state: Any, options: Any, commit: Any, offer: Any, now: datetime) -> Any:
        known = [rollout.record for rollout in state.open_rollouts()]
        if known:
            offer = evolve(offer, running_closure=known[-1].target_closure)
        return consider(state, options, commit, offer, now)

    patch.setattr(offers, "consider", bookish)


def never_clears_the_stamp_of_a_failure(patch: pytest.MonkeyPatch) -> None:
    """A probe that recovered is still taken to fail since its first failure."""
    with_sample = observation.with_sample

    def unforgiving(observed: Any, name: str, status: Any, now: datetime, gap_max: Any) -> Any:
        before = observed.failing.get(name)
        after = with_sample(observed, name, status, now, gap_max)
        if before is None:
            return after
        return evolve(after, failing=after.failing.with_item(name, evolve(before, last_at=now)))

    patch.setattr(samples, "with_sample", unforgiving)


# The control plane.


def lets_one_host_too_many_go(patch: pytest.MonkeyPatch) -> None:
    """A budget is kept to its limit and one."""
    taken = gates.Planning.taken
    patch.setattr(gates.Planning, "taken", lambda self, budget: taken(self, budget) - 1)


def promotes_a_wave_that_soaks(patch: pytest.MonkeyPatch) -> None:
    """The next wave begins when the hosts of this one soak."""
    patch.setattr(progress, "_is_done", progress._is_settled)


def forgets_edges(patch: pytest.MonkeyPatch) -> None:
    """A host goes before the one it waits for."""
    _without(patch, "gate_host_edge")
    patch.setattr(plan, "gate_host_edge", lambda *_: None)


def leaves_queued_dispatches_when_paused(patch: pytest.MonkeyPatch) -> None:
    """A pause keeps dispatches from being queued, and hands out those that are."""
    left = tuple(g for g in gates.WITHDRAWING if g.__name__ != "gate_operator_hold")
    patch.setattr(gates, "WITHDRAWING", left)


def ignores_controls_that_fail(patch: pytest.MonkeyPatch) -> None:
    """Later waves go while controls of earlier ones fail."""
    _without(patch, "gate_compliance_wave")


def counts_excused_hosts(patch: pytest.MonkeyPatch) -> None:
    """An operator's clearance excuses nobody."""
    clear = rollout_reducer._from_halted

    def stubborn(record: Any, event: Any) -> Any:
        after, effects = clear(record, event)
        return evolve(after, standings=record.standings), effects

    patch.setattr(rollout_reducer, "_from_halted", stubborn)


def opens_beside_the_one_before(patch: pytest.MonkeyPatch) -> None:
    """A newer rollout does not end the older one of its channel."""
    patch.setattr(ControlPlaneEngine, "_supersede", lambda *_: None)
    patch.setattr(books, "open_rollout", lambda opened, seq, _: open_rollout(opened, seq, ()))


def asks_for_one_fact_too_late(patch: pytest.MonkeyPatch) -> None:
    """A control plane that lost its log asks hosts to begin with their second fact."""
    compare = ControlPlaneEngine._compare

    def late(self: Any, commit: Any, heartbeat: Any, now: datetime) -> HeartbeatReply:
        reply: HeartbeatReply = compare(self, commit, heartbeat, now)
        behind = tuple(
            evolve(replay, first_missing_seq=replay.first_missing_seq + 1)
            for replay in reply.replay_from
        )
        return evolve(reply, replay_from=behind)

    patch.setattr(ControlPlaneEngine, "_compare", late)


def takes_back_too_little(patch: pytest.MonkeyPatch) -> None:
    """When a write fails, the oldest change of the batch stays."""

    undo_to = undo.UndoLog.undo_to

    def forgetful(self: undo.UndoLog, mark: int) -> None:
        if len(self.undoings) > mark and mark == 0:
            del self.undoings[0]
        undo_to(self, mark)

    patch.setattr(undo.UndoLog, "undo_to", forgetful)


def listens_to_who_was_revoked(patch: pytest.MonkeyPatch) -> None:
    """A control plane that started forgets whose keys are refused."""
    put_stored = Identities.put_stored
    patch.setattr(Identities, "put_stored", lambda self, hosts, _: put_stored(self, hosts, ()))


def leaves_a_failure_open(patch: pytest.MonkeyPatch) -> None:
    """A control that recovered still fails in its table."""
    note = State.note_probe_result

    def forgetful(self: Any, commit: Any, *arguments: Any) -> None:
        note(self, commit, *arguments)
        commit._writes[:] = [w for w in commit._writes if not isinstance(w, ClearProbeFailure)]

    patch.setattr(State, "note_probe_result", forgetful)


# Stores and disks.


def loses_its_last_commit_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    """A commit returns before a loss of power could not take it back any more."""
    cut_off = Disk.cut_off

    def lazy(self: Any, *, write_survives: bool) -> None:
        cut_off(self, write_survives=write_survives)
        if self._unread:
            self._unread.pop()

    patch.setattr(Disk, "cut_off", lazy)


def keeps_half_of_a_torn_commit(patch: pytest.MonkeyPatch) -> None:
    """A commit that a crash cuts off is there in part."""
    cut_off = Disk.cut_off

    def torn(self: Any, *, write_survives: bool) -> None:
        under_way = self._under_way
        cut_off(self, write_survives=write_survives)
        if under_way is not None and not write_survives:
            writes = under_way[0]
            self._unread.append(writes[: (len(writes) + 1) // 2])

    patch.setattr(Disk, "cut_off", torn)


def leaves_a_view_as_it_was(patch: pytest.MonkeyPatch) -> None:
    """Withdrawn dispatches stay in their table."""
    state_remove = State.remove_dispatch

    def forgetful(self: Any, commit: Any, key: Any) -> None:
        length = len(commit._writes)
        state_remove(self, commit, key)
        kept = [w for w in commit._writes[length:] if isinstance(w, LogRow)]
        commit._writes[length:] = kept

    patch.setattr(State, "remove_dispatch", forgetful)


# Agents.


def trusts_the_dispatch(patch: pytest.MonkeyPatch) -> None:
    """A host activates what it is told, not what was signed."""
    patch.setattr(offers, "objection_to_dispatch", lambda *_: None)


def takes_manifests_of_any_age(patch: pytest.MonkeyPatch) -> None:
    """A manifest that went stale, or that a compromised key signed, is acted upon."""
    patch.setattr(signed_artefact, "_require_fresh", lambda *_: None)
    patch.setattr(signed_artefact, "require_not_compromised", lambda *_: None)


def does_not_check_signatures(patch: pytest.MonkeyPatch) -> None:
    """Whoever signed it is believed."""
    patch.setattr(signed_artefact, "is_signed_by", lambda *_: True)


def keeps_older_rollouts_open(patch: pytest.MonkeyPatch) -> None:
    """A newer dispatch is acknowledged, and the older rollout goes on on the host."""
    patch.setattr(AgentState, "close_rollout", lambda *_: None)


def converges_without_soaking(patch: pytest.MonkeyPatch) -> None:
    """A host is done before its soak is over."""
    first_broken_rule = convergence.first_broken_rule

    def impatient(state: Any, current_closure: str, at: datetime) -> Any:
        broken = first_broken_rule(state, current_closure, at)
        is_soak = broken is not None and broken[0] is ConvergenceRule.SOAK_ELAPSED
        return None if is_soak else broken

    patch.setattr(convergence, "first_broken_rule", impatient)
    patch.setattr(samples, "first_broken_rule", impatient)


def converges_before_every_probe_reported(patch: pytest.MonkeyPatch) -> None:
    """A declared probe that never reported counts as passed, to the reducer and to the agent's own observation."""
    first_broken_rule, waits_for = convergence.first_broken_rule, observation.waits_for

    def trusting(state: Any, current_closure: str, at: datetime) -> Any:
        return first_broken_rule(evolve(state, declared_probes=()), current_closure, at)

    def unseen(record: Any, observed: Any) -> Any:
        return waits_for(evolve(record, declared_probes=()), observed)

    patch.setattr(convergence, "first_broken_rule", trusting)
    patch.setattr(samples, "first_broken_rule", trusting)
    patch.setattr(samples, "waits_for", unseen)


def takes_a_failed_rollback_for_a_revert(patch: pytest.MonkeyPatch) -> None:
    """A rollback with a non-zero exit code is reported as one that worked."""
    from_failed = reducer._from_failed

    def hopeful(state: Any, event: Any) -> Any:
        fact = event.fact
        if isinstance(fact, RollbackComplete) and fact.exit_code != 0:
            moved, effects = from_failed(state, evolve(event, fact=evolve(fact, exit_code=0)))
            return moved, tuple(_with_fact(effect, fact) for effect in effects)
        return from_failed(state, event)

    patch.setattr(reducer, "_from_failed", hopeful)


def _with_fact(effect: Any, fact: RollbackComplete) -> Any:
    return evolve(effect, payload=fact) if hasattr(effect, "payload") else effect


def does_not_send_again_what_was_acknowledged(patch: pytest.MonkeyPatch) -> None:
    """Asked to replay, a host sends only what it thinks is not known there."""
    patch.setattr(agent_engine, "replay", lambda *_: None)


def forgets_intents_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    """A switch that was decided when the agent died is never begun again."""
    boot = AgentEngine._boot

    def forgetful(self: Any, commit: Any, input: Any, now: datetime) -> None:
        for intent in tuple(self._state.intents.values()):
            self._state.remove_intent(commit, intent)
        boot(self, commit, input, now)

    patch.setattr(AgentEngine, "_boot", forgetful)


# Agents that a control plane lies to.


def obeys_a_short_soak(patch: pytest.MonkeyPatch) -> None:
    """The soak is the dispatch's, not the one that was signed."""
    patch.setattr(manifest_agreement, "_soak_objection", lambda *_: None)


def soaks_as_long_as_it_is_told(patch: pytest.MonkeyPatch) -> None:
    """The signed soak is only the shortest one."""
    objection = manifest_agreement._soak_objection

    def patient(what: str, times: Any, manifest: Any, hostname: str) -> Any:
        minutes = manifest.soak_minutes_of(hostname)
        is_long = minutes is not None and times[1] - times[0] >= timedelta(minutes=minutes)
        return None if is_long else objection(what, times, manifest, hostname)

    patch.setattr(manifest_agreement, "_soak_objection", patient)


def takes_a_record_over_with_a_journal(patch: pytest.MonkeyPatch) -> None:
    """A record with a higher number replaces what the host knows of itself."""
    patch.setattr(AgentState, "is_fresh", lambda _: True)


def takes_a_record_over_without_a_fact(patch: pytest.MonkeyPatch) -> None:
    """A record of no fact counts as a dispatch that was acknowledged."""
    objection = manifest_agreement.objection_to_record

    def trusting(record: Any, *arguments: Any) -> Any:
        if record.last_event_seq == 0:
            record = evolve(record, last_event_seq=1)
        return objection(record, *arguments)

    patch.setattr(reconcile, "objection_to_record", trusting)


def takes_any_number_over(patch: pytest.MonkeyPatch) -> None:
    """A number after which there is none is taken over."""
    patch.setattr(manifest_agreement, "SEQ_TAKEN_OVER_MAX", 2**63 - 1)


def forgets_the_newest_release(patch: pytest.MonkeyPatch) -> None:
    """A release that is fresh is obeyed, however old."""
    objection = downgrade.objection_to_release

    def forgetful(manifest: Any, hostname: str, _: Any, rolled_back: Any) -> Any:
        return objection(manifest, hostname, None, rolled_back)

    patch.setattr(offers, "objection_to_release", forgetful)
    patch.setattr(reconcile, "objection_to_release", forgetful)


def switches_again_to_what_it_rolled_back_from(patch: pytest.MonkeyPatch) -> None:
    """A dispatch that comes again is carried out again, also after the rollback."""
    consider = offers.consider

    def obedient(state: Any, options: Any, commit: Any, offer: Any, now: datetime) -> Any:
        known = state.rollouts.get(offer.manifest.value.rollout_id)
        answer = consider(state, options, commit, offer, now)
        if known is None or known.closed_at is not None or state.intents:
            return answer
        record = known.record
        if record.state is HostState.REVERTED:
            intent = state.add_intent(
                commit, IntentKind.SWITCH, record.rollout_id, record.target_closure
            )
            commit.afterwards(CarryOut(intent))
        return answer

    patch.setattr(offers, "consider", obedient)


def deletes_rows_on_a_replay_from_the_beginning(patch: pytest.MonkeyPatch) -> None:
    """Asked for the first fact, a host takes its rollout for one that both sides have lost."""
    replay = reconcile.replay

    def hasty(state: Any, commit: Any, input: Any, now: datetime) -> None:
        if input.replay.first_missing_seq == 1 and input.replay.rollout_id in state.rollouts:
            state.remove_rollouts(commit, [RolloutId(input.replay.rollout_id)])
        else:
            replay(state, commit, input, now)

    patch.setattr(agent_engine, "replay", hasty)


def sets_a_whole_journal_aside(patch: pytest.MonkeyPatch) -> None:
    """A replay from a fact before the first one is taken for one that was lost."""
    replay = reconcile.replay

    def hasty(state: Any, commit: Any, input: Any, now: datetime) -> None:
        if input.replay.first_missing_seq < 1 and input.replay.rollout_id in state.rollouts:
            reconcile._set_aside_lost(state, commit, RolloutId(input.replay.rollout_id), now)
        else:
            replay(state, commit, input, now)

    patch.setattr(agent_engine, "replay", hasty)


# The agent's workers.


def does_not_poll_again_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    """The poll for dispatches ends with the first one that is not answered."""
    poll = PollDispatch.__iter__

    def once(self: PollDispatch) -> Any:
        try:
            return (yield from poll(self))
        except TransportFailed:
            yield from Wait(None, Wakeup())

    patch.setattr(PollDispatch, "__iter__", once)


def never_releases_the_lock(patch: pytest.MonkeyPatch) -> None:
    """The worker that held the machine at rest keeps it so."""
    patch.setattr(Lock, "release", lambda _: None)


def does_not_report_a_rollback(patch: pytest.MonkeyPatch) -> None:
    """The outcome of a rollback is not posted."""
    insist = RetryingPost.insist

    def silent(self: RetryingPost, input: Any) -> Any:
        if isinstance(input, RollbackEnded):
            return Done()
        return (yield from insist(self, input))

    patch.setattr(RetryingPost, "insist", silent)


def does_not_begin_anew_what_is_replayed(patch: pytest.MonkeyPatch) -> None:
    """What the control plane asks for in its heartbeat's answer is dropped."""

    def reconcile(self: Any, reply: Any) -> Any:
        yield from ()

    patch.setattr(HeartbeatWorker, "_reconcile", reconcile)


def does_not_start_probes(patch: pytest.MonkeyPatch) -> None:
    """The health checks are read, and none is run."""
    follow = ProbeWorker._follow

    def idle(self: Any, order: Any) -> Any:
        if not isinstance(order, StartProbes):
            yield from follow(self, order)

    patch.setattr(ProbeWorker, "_follow", idle)


PLANTED: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        acknowledges_before_it_commits,
        deletes_a_dispatch_when_it_is_handed_out,
        drops_facts_while_manifests_are_missing,
        does_not_read_quarantines_back,
        does_not_honour_a_halt,
        takes_the_rollback_target_from_its_books,
        never_clears_the_stamp_of_a_failure,
        lets_one_host_too_many_go,
        promotes_a_wave_that_soaks,
        forgets_edges,
        leaves_queued_dispatches_when_paused,
        ignores_controls_that_fail,
        counts_excused_hosts,
        opens_beside_the_one_before,
        asks_for_one_fact_too_late,
        takes_back_too_little,
        loses_its_last_commit_in_a_crash,
        keeps_half_of_a_torn_commit,
        leaves_a_view_as_it_was,
        listens_to_who_was_revoked,
        leaves_a_failure_open,
        trusts_the_dispatch,
        takes_manifests_of_any_age,
        does_not_check_signatures,
        keeps_older_rollouts_open,
        converges_without_soaking,
        converges_before_every_probe_reported,
        takes_a_failed_rollback_for_a_revert,
        does_not_send_again_what_was_acknowledged,
        forgets_intents_in_a_crash,
        obeys_a_short_soak,
        soaks_as_long_as_it_is_told,
        takes_a_record_over_with_a_journal,
        takes_a_record_over_without_a_fact,
        takes_any_number_over,
        forgets_the_newest_release,
        switches_again_to_what_it_rolled_back_from,
        deletes_rows_on_a_replay_from_the_beginning,
        sets_a_whole_journal_aside,
        does_not_poll_again_after_a_failure,
        never_releases_the_lock,
        does_not_report_a_rollback,
        does_not_begin_anew_what_is_replayed,
        does_not_start_probes,
    )
}

FOUND_BY: Final[Mapping[str, int]] = {
    "acknowledges_before_it_commits": 1,
    "deletes_a_dispatch_when_it_is_handed_out": 1,
    "drops_facts_while_manifests_are_missing": 2,
    "does_not_read_quarantines_back": 1,
    "does_not_honour_a_halt": 1,
    "takes_the_rollback_target_from_its_books": 1,
    "never_clears_the_stamp_of_a_failure": 40,
    "lets_one_host_too_many_go": 1,
    "promotes_a_wave_that_soaks": 2,
    "forgets_edges": 6,
    "leaves_queued_dispatches_when_paused": 1,
    "ignores_controls_that_fail": 24,
    "counts_excused_hosts": 6,
    "opens_beside_the_one_before": 1,
    "asks_for_one_fact_too_late": 1,
    "takes_back_too_little": 1,
    "loses_its_last_commit_in_a_crash": 1,
    "keeps_half_of_a_torn_commit": 1,
    "leaves_a_view_as_it_was": 1,
    "listens_to_who_was_revoked": 1,
    "leaves_a_failure_open": 21,
    "trusts_the_dispatch": 30,
    "takes_manifests_of_any_age": 47,
    "does_not_check_signatures": 1,
    "keeps_older_rollouts_open": 45,
    "converges_without_soaking": 1,
    "converges_before_every_probe_reported": 1,
    "takes_a_failed_rollback_for_a_revert": 6,
    "does_not_send_again_what_was_acknowledged": 4,
    "forgets_intents_in_a_crash": 15,
    "obeys_a_short_soak": 1,
    "soaks_as_long_as_it_is_told": 1,
    "takes_a_record_over_with_a_journal": 1,
    "takes_a_record_over_without_a_fact": 3,
    "takes_any_number_over": 3,
    "forgets_the_newest_release": 3,
    "switches_again_to_what_it_rolled_back_from": 1,
    "deletes_rows_on_a_replay_from_the_beginning": 1,
    "sets_a_whole_journal_aside": 1,
    "does_not_poll_again_after_a_failure": 1,
    "never_releases_the_lock": 1,
    "does_not_report_a_rollback": 1,
    "does_not_begin_anew_what_is_replayed": 4,
    "does_not_start_probes": 1,
}
"""The first seed that finds each, with five hosts and a tenth of a day (`python -m tools.simulation.seeds_needed`)."""
