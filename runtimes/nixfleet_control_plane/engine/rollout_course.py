"""How a rollout goes on after what its hosts did, or did not do: which of its events are due now, and in which order.

The events themselves are found by the planner; here they are applied until none is due. Every function logs what it
does through `move_rollout`.
Source: docs/spec/rollout-machine.md, Who emits rollout events; docs/spec/policy.md.
"""

from collections.abc import Iterable
from datetime import datetime

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import move_hold, move_rollout, return_slots
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.log_entry import Returned
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import EmitMetric, RecordTransition
from nixfleet_state_machine.planner.drift import drift_change, drift_ended, strays
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.holds.edges import calendar_events, due_hold_events
from nixfleet_state_machine.planner.members import members_change
from nixfleet_state_machine.planner.passing_time import due_by_time, slots_due
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.planner.standings import (
    heard_again,
    may_be_pruned,
    reported_again,
    skipped_with,
    skips_due,
)
from nixfleet_state_machine.planner.verdict import wave_broken
from nixfleet_state_machine.rollout.event import (
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    RetentionExpired,
    StandingChanged,
    Verdict,
)
from nixfleet_state_machine.rollout.state import RolloutState, Standing


def join(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, hostname: str, now: datetime
) -> None:
    """Note that the rollout has its first host. Before, nobody waited for those who were skipped or excused."""
    if state.view.rollouts[rollout_id].state is RolloutState.OPENING:
        wave = state.view.terms(rollout_id).wave_of.get(hostname, 0)
        move_rollout(state, commit, HostJoined(rollout_id, hostname, wave, now), now)
        judge(state, commit, rollout_id, _skip_in_vain(state, commit, rollout_id, now), now)


def notify(
    state: State, commit: CommitBuilder, transition: RecordTransition, now: datetime
) -> None:
    """Tell a rollout of a host's transition, and go on with it."""
    rollout_id, host = transition.rollout_id, transition.host
    state.strayed.discard((rollout_id, host))
    ended = drift_ended(state.view, rollout_id, host, None, now)
    if ended is not None:
        move_rollout(state, commit, ended, now)
    standing = state.view.rollouts[rollout_id].standing_of(host)
    # Excused hosts are ignored: a rollback that ends after the clearance would halt the rollout again.
    if standing is not Standing.EXCUSED and standing is not Standing.LEFT:
        counts = standing is Standing.COUNTED
        event = HostStateChanged(
            rollout_id,
            host,
            transition.from_,
            transition.to,
            transition.at,
            is_tolerant=not counts or state.view.terms(rollout_id).is_tolerant_of(host),
        )
        move_rollout(state, commit, event, now)
        if transition.to.is_failure:
            judge(state, commit, rollout_id, (host,), now)
    advance(state, commit, rollout_id, now)


def reported(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, hostname: str, now: datetime
) -> None:
    """Count a host again that was silent or skipped, since a fact of it was taken."""
    _change(state, commit, reported_again(state.view, rollout_id, hostname, now), now)


def heard(
    state: State,
    commit: CommitBuilder,
    hostname: str,
    rollouts: Iterable[RolloutId],
    now: datetime,
) -> None:
    """Count a host again that was off, in every rollout that is served, since it was heard of.

    rollouts: those that have a record of it.
    """
    state.last_heard.set(hostname, now)
    for rollout_id in rollouts:
        if state.view.rollout(rollout_id).state.is_served:
            event = heard_again(state.view, rollout_id, hostname, now)
            if event is not None:
                _change(state, commit, event, now)
                advance(state, commit, rollout_id, now)


def note_running(
    state: State,
    commit: CommitBuilder,
    hostname: str,
    rollouts: Iterable[RolloutId],
    running: str,
    now: datetime,
) -> None:
    """Note what a heartbeat shows a host to run: a drift if it is the second in a row, or the end of one.

    rollouts: those that have a record of it.
    """
    for rollout_id in rollouts:
        key = rollout_id, hostname
        if not state.view.rollout(rollout_id).state.is_served:
            continue
        is_new = strays(state.view, *key, running) and state.strayed.get(key) != running
        if is_new:
            state.strayed.set(key, running)
            continue
        event = drift_change(state.view, *key, running, now)
        if event is not None:
            move_rollout(state, commit, event, now)
        if not isinstance(event, HostDrifted):
            state.strayed.discard(key)


def pass_time(state: State, commit: CommitBuilder, now: datetime) -> None:
    """Apply what the time has made due: slots that come back, lapses, retries, bakes that are
    over, and the end of retention."""
    for returned in slots_due(state.view, now):
        return_slots(state, commit, Returned(returned), now)
    for event in due_by_time(state.view, now, state.last_heard.get):
        move_rollout(state, commit, event, now)
        if isinstance(event, HostsLapsed):
            judge(state, commit, event.rollout_id, event.hosts, now)
            advance(state, commit, event.rollout_id, now)
        elif isinstance(event, Verdict):
            count_verdict(commit, event)
            advance(state, commit, event.rollout_id, now)
    for rollout_id in sorted(key for key, at in state.prune_due.items() if at <= now):
        if may_be_pruned(state.view, rollout_id, now):
            move_rollout(state, commit, RetentionExpired(rollout_id, now), now)


def pass_hold_time(state: State, commit: CommitBuilder, zones: Zones, now: datetime) -> None:
    """Begin and end holds as the time has made due. Asked before every plan: no host begins after a hold is due."""
    for event in due_hold_events(state.view.holds, now):
        move_hold(state, commit, event, now)
    if not is_calendar_due(state, now):
        return
    groups = (group for _, calendar in sorted(state.calendars.items()) for group in calendar.groups)
    events, next_at = calendar_events(state.view.holds, groups, zones, now)
    for event in events:
        move_hold(state, commit, event, now)
    state.calendar_due.set(next_at)
    state.calendar_asked_at.set(now)


def is_calendar_due(state: State, now: datetime) -> bool:
    """Return whether windows and freezes may hold others at `now` than when they were asked last.

    That is also so where the clock was set back: what was due by then is not due now.
    """
    due = state.calendar_due.get()
    return (due is not None and due <= now) or now < state.calendar_asked_at.get()


def count_verdict(commit: CommitBuilder, verdict: Verdict) -> None:
    """Count a verdict in the metrics, by its outcome."""
    labels = (("outcome", verdict.outcome.value),)
    commit.afterwards(EmitMetric("nixfleet_verdicts_total", labels, 1))


def amend(state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
    """Apply the manifest that is in force to its rollout, if that is open and the hosts are not the same.

    Also if its author has approved a later wave: who makes a release does not approve it, so all are asked anew.
    """
    if rollout_id not in state.view.open_rollouts:
        return
    before, after = state.view.terms(rollout_id), state.manifests[rollout_id].terms
    record, author = (
        state.view.rollout(rollout_id),
        state.manifests[rollout_id].manifest.meta.author,
    )
    event = members_change(before, after, record, now)
    if event is None and author is not None and record.is_approved_by(author):
        # Without a member that changes, it lets what was said of the manifest before count no more.
        event = MembersChanged(rollout_id, (), (), (), now)
    if event is None:
        return
    move_rollout(state, commit, event, now)
    # A wave may be broken without those that left, of which only they succeeded. Any host of it stands for it.
    waves = {before.wave_of.get(host) for host in event.left}
    stand_in = {wave: host for host, wave in after.wave_of.items() if wave in waves}
    judge(state, commit, rollout_id, stand_in.values(), now)
    advance(state, commit, rollout_id, now)


def judge(
    state: State,
    commit: CommitBuilder,
    rollout_id: RolloutId,
    hosts: Iterable[str],
    now: datetime,
) -> None:
    """Halt the rollout if `hosts`, which count for less now, broke a wave; skip who waits for them if not."""
    for host in hosts:
        broken = wave_broken(state.view, rollout_id, host, now)
        if broken is not None:
            move_rollout(state, commit, broken, now)
            return
    for host in hosts:
        skipped = skipped_with(state.view, rollout_id, host, now)
        if skipped is not None:
            _change(state, commit, skipped, now)
            judge(state, commit, rollout_id, skipped.hosts, now)


def resume(state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
    """Go on with a rollout that was halted: skip who waits for hosts that stopped coming meanwhile.

    That may break a wave of which they are all; as everywhere, it is said at once.
    """
    hosts = _skip_in_vain(state, commit, rollout_id, now)
    advance(state, commit, rollout_id, now)
    judge(state, commit, rollout_id, hosts, now)


def _skip_in_vain(
    state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime
) -> list[str]:
    """Skip who waits for hosts that stopped coming while the rollout was not under way, and return them."""
    hosts: list[str] = []
    for skipped in skips_due(state.view, rollout_id, now):
        move_rollout(state, commit, skipped, now)
        hosts += skipped.hosts
    return hosts


def advance(state: State, commit: CommitBuilder, rollout_id: RolloutId, now: datetime) -> None:
    """Promote waves and complete the rollout, as far as the state of its hosts allows."""
    while events := due_rollout_events(state.view, rollout_id, now):
        for event in events:
            move_rollout(state, commit, event, now)


def _change(
    state: State, commit: CommitBuilder, event: StandingChanged | None, now: datetime
) -> None:
    if event is not None:
        move_rollout(state, commit, event, now)
