"""What only a person moves: of a rollout, and of the fleet. Each with what is so, since when, and what answers it.

Nothing here costs more the more hosts there are, but for those that lapsed, drifted or are overdue, and not for long:
of them, few are named.
Source: docs/spec/overview.md, Needs you.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from attrs import Factory, evolve, frozen

from nixfleet_control_plane.engine.guard_verdicts import guarded_rollout
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.engine.wait_groups import WaitGroup
from nixfleet_control_plane.overview.advice import (
    absent_commands,
    halt_commands,
    hold_commands,
    quarantine_commands,
)
from nixfleet_control_plane.overview.comes_next import holds_of
from nixfleet_control_plane.overview.holds import holder_of, what_ends
from nixfleet_control_plane.overview.words import hosts_words, minute
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_runtime.http.listings import RefusedArtefact, RefusedEnrollment
from nixfleet_runtime.http.overview import Need, NeedKind
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.gates import quarantine_reason
from nixfleet_state_machine.planner.guards.states import GuardState, broken_reason, broken_wave
from nixfleet_state_machine.planner.guards.words import guard_line
from nixfleet_state_machine.planner.holds.blocks import words_of
from nixfleet_state_machine.planner.holds.hold import Hold
from nixfleet_state_machine.planner.holds.scope import FleetScope, HostScope
from nixfleet_state_machine.planner.rollout_status import WaveState, WaveStatus, wave_statuses
from nixfleet_state_machine.rollout.state import RolloutState, Standing

NEEDS_MAX: Final = 50
"""So many are listed of one kind; the last one of more says how many there are."""
NAMED_MAX: Final = 3
SOON: Final = timedelta(hours=24)
"""How long before hosts refuse a release somebody is asked to sign it again, at the earliest."""
SOON_SHARE: Final = 4
"""Only in the last of so many parts of its freshness is that so: one that is signed anew in time is no matter."""

_OVERDUE_WORDS: Final = {
    (): "",
    ("skip",): ", and skip those that do not come",
    ("excuse",): ", and excuse those that do not come",
    ("skip", "excuse"): ", and excuse or skip those that do not come",
}


@frozen
class FleetNotices:
    """What the log does not hold, of a control plane. refusing_hosts: whose agent does not act on something."""

    refused_artefacts: tuple[RefusedArtefact, ...] = ()
    release_problem: str | None = None
    left_out: tuple[str, ...] = ()
    refusing_hosts: int = 0
    refused_enrollments: tuple[RefusedEnrollment, ...] = ()


@frozen
class Asked:
    """What the needs of rollouts are found by, besides the state. stale_at: by rollout that is in force.

    overdue: the records of hosts that are past a deadline of which nothing follows, by rollout.
    """

    now: datetime
    stale_at: Mapping[RolloutId, datetime] = Factory(dict[RolloutId, datetime])
    overdue: Mapping[RolloutId, Sequence[HostRolloutState]] = Factory(
        dict[RolloutId, Sequence[HostRolloutState]]
    )


def overdue_by_rollout(
    state: State, now: datetime
) -> Mapping[RolloutId, Sequence[HostRolloutState]]:
    """Return the records of the hosts that are past a deadline of which nothing follows. O(those hosts)."""
    found: dict[RolloutId, list[HostRolloutState]] = {}
    for record in state.view.overdue(now):
        found.setdefault(record.rollout_id, []).append(record)
    return found


def rollout_needs(
    state: State,
    rollout_id: RolloutId,
    waves: tuple[WaveStatus, ...],
    signed_at: datetime | None,
    asked: Asked,
) -> tuple[Need, ...]:
    """Return what an open rollout needs a person for, the most pressing first. signed_at: its manifest."""
    record = state.view.rollout(rollout_id)
    if not record.state.is_served:
        return ()
    found = (
        *_halt(state, rollout_id, waves, asked.now),
        *_approvals(state, rollout_id),
        *_quarantines(state, rollout_id, asked.now),
        *_rollout_holds(state, rollout_id, asked.now),
        *_lapsed(state, rollout_id, asked.now),
        *_overdue(state, rollout_id, asked),
        *_unstaged(state, rollout_id, waves),
        *_drifts(state, rollout_id),
        *_freshness(rollout_id, signed_at, asked),
    )
    return tuple(map(_with_first_command, found))


def all_rollout_needs(
    state: State, now: datetime, stale_at: Mapping[RolloutId, datetime]
) -> Iterator[Need]:
    """Yield what the rollouts that are served, or lost, need a person for. stale_at: as in `Asked`."""
    asked = Asked(now, stale_at, overdue_by_rollout(state, now))
    for rollout_id in state.view.served_rollouts():
        waves = wave_statuses(state.view, rollout_id)
        signed_at = state.manifests[rollout_id].manifest.meta.signed_at
        yield from rollout_needs(state, rollout_id, waves, signed_at, asked)
    for rollout_id, why in state.lost.items():
        yield lost_need(rollout_id, why)


def lost_need(rollout_id: RolloutId, why: str) -> Need:
    """Return the need of a rollout of which the control plane lost what it runs under."""
    return Need(
        NeedKind.LOST,
        f"{rollout_id} is lost: {why}.",
        "Release the channel under another ref, or restart the control plane once its release is in force again.",
        rollout_id=rollout_id,
        channel=rollout_id.channel,
    )


def fleet_needs(state: State, notices: FleetNotices, now: datetime) -> tuple[Need, ...]:
    """Return what a person is needed for that is about no rollout."""
    found = (
        *_release(notices),
        *(_capped(_fleet_holds(state, now))),
        *_enrollments(notices.refused_enrollments),
        *_refusing(notices.refusing_hosts),
    )
    return tuple(map(_with_first_command, found))


def _with_first_command(need: Need) -> Need:
    return evolve(need, command=need.commands[0]) if need.commands else need


def _capped(needs: Iterable[Need]) -> Iterator[Need]:
    yield from islice(needs, NEEDS_MAX)


def _halt(
    state: State, rollout_id: RolloutId, waves: tuple[WaveStatus, ...], now: datetime
) -> Iterator[Need]:
    record = state.view.rollout(rollout_id)
    if not record.state.is_halted:
        return
    pruned_at = state.prune_due.get(rollout_id)
    # Its retention runs from when it was halted.
    since = record.broken_at if pruned_at is None else pruned_at - record.retention
    if record.state is RolloutState.ABORTED:
        yield Need(
            NeedKind.ABORTED,
            f"{rollout_id} was aborted: nothing more is dispatched in it.",
            "Release another ref to go on.",
            since,
            rollout_id=rollout_id,
            channel=record.channel,
        )
        return
    why = _why_halted(state, rollout_id, waves)
    failed = sum(wave.failed for wave in waves)
    yield Need(
        NeedKind.HALTED,
        f"{rollout_id} is halted: {why}.",
        "Release a repaired closure, or clear the rollout to go on without the hosts that failed.",
        since,
        commands=halt_commands(state, rollout_id, now),
        rollout_id=rollout_id,
        channel=record.channel,
        hosts=failed,
    )


def _why_halted(state: State, rollout_id: RolloutId, waves: tuple[WaveStatus, ...]) -> str:
    guarded = broken_wave(state.view.rollout(rollout_id), state.view.terms(rollout_id))
    if guarded is not None and guarded.broken is not None:
        return f"wave {guarded.wave} must not begin ({broken_reason(guarded.broken)})"
    broken = [wave for wave in waves if wave.verdict is WaveState.BROKEN] or [
        wave for wave in waves if wave.failed
    ]
    if not broken:
        return f"it is {state.view.rollout(rollout_id).state}"
    wave = broken[0]
    if wave.failed <= wave.allowed:
        return f"no host of wave {wave.wave} succeeded"
    where = "in no wave" if wave.wave is None else f"of wave {wave.wave}"
    return f"{wave.failed:,} of {hosts_words(wave.total)} {where} failed, and {wave.allowed:,} may"


def _approvals(state: State, rollout_id: RolloutId) -> Iterator[Need]:
    found = guarded_rollout(state, rollout_id)
    if found is None or found.guarded.since is None or found.declared.approvals is None:
        return
    if state.view.rollout(rollout_id).state.is_halted:
        return
    for guard in found.guarded.guards:
        if guard.name == APPROVALS and guard.state is GuardState.OPEN:
            given = () if guard.tally is None else guard.tally.passed_by
            names = found.declared.approvals.names
            who = tuple(name for name in names if name not in (*given, found.author))
            wave = found.guarded.wave
            yield Need(
                NeedKind.APPROVAL,
                f"Wave {wave} of {rollout_id} waits for approval: "
                f"{guard_line(guard, found.declared, found.author)}.",
                "Approve the wave, or deny it: a denial halts the rollout.",
                found.guarded.since,
                who=who,
                commands=(f"approve {rollout_id} --wave {wave}",),
                rollout_id=rollout_id,
                channel=rollout_id.channel,
                wave=wave,
            )


def _quarantines(state: State, rollout_id: RolloutId, now: datetime) -> Iterator[Need]:
    channel, terms = rollout_id.channel, state.view.terms(rollout_id)
    waits = dict(state.waits.of(rollout_id))
    barred = state.quarantines.get(channel, frozenset[str]())
    for closure in sorted(each for each in barred if each in terms.closures)[:NEEDS_MAX]:
        group = WaitGroup(rollout_id, Gate.QUARANTINE, quarantine_reason(channel, closure))
        count = waits.get(group)
        if count is not None:
            yield Need(
                NeedKind.QUARANTINE,
                f"{closure} is quarantined on {channel}: {hosts_words(count.hosts)} "
                f"{'waits' if count.hosts == 1 else 'wait'} for it.",
                "Release another closure, or retire the quarantine if the closure was not to blame.",
                state.quarantined_at.get((channel, closure)),
                commands=quarantine_commands(state, channel, closure, now),
                rollout_id=rollout_id,
                channel=channel,
                hosts=count.hosts,
                subject=closure,
            )


def _rollout_holds(state: State, rollout_id: RolloutId, now: datetime) -> Iterator[Need]:
    for hold in holds_of(state, rollout_id):
        is_own = not isinstance(hold.scope, FleetScope)
        if is_own and hold.until is None and hold.source.kind.is_for_people:
            yield _hold_need(state, hold, rollout_id, now)


def _fleet_holds(state: State, now: datetime) -> Iterator[Need]:
    """Holds without an end on the fleet and on hosts."""
    found = (
        hold
        for hold in state.view.holds.for_people
        if isinstance(hold.scope, FleetScope | HostScope)
    )
    for hold in sorted(found, key=lambda hold: (str(hold.scope), hold.source.order)):
        yield _hold_need(state, hold, None, now)


def _hold_need(state: State, hold: Hold, rollout_id: RolloutId | None, now: datetime) -> Need:
    return Need(
        NeedKind.HOLD,
        f"{words_of(hold)}; without an end.",
        what_ends(hold),
        hold.since,
        commands=hold_commands(state, hold, now),
        rollout_id=rollout_id,
        channel=None if rollout_id is None else rollout_id.channel,
        subject=str(hold.scope),
        holder=holder_of(hold),
    )


def _lapsed(state: State, rollout_id: RolloutId, now: datetime) -> Iterator[Need]:
    count = state.standing_counts.get((rollout_id, Standing.LAPSED), 0)
    if count:
        standings = state.view.rollout(rollout_id).standings
        lapsed = (host for host, it in standings.items() if it is Standing.LAPSED)
        commands = _without(state, rollout_id, lapsed, now, may_skip=False)
        ways = ", or excuse them" if commands else ""
        yield Need(
            NeedKind.LAPSED,
            f"{hosts_words(count)} of {rollout_id} lapsed: silent past a deadline, "
            f"{'it counts' if count == 1 else 'they count'} as failed.",
            f"Bring them back{ways}: each counts again once it is heard of.",
            commands=commands,
            rollout_id=rollout_id,
            channel=rollout_id.channel,
            hosts=count,
        )


def _overdue(state: State, rollout_id: RolloutId, asked: Asked) -> Iterator[Need]:
    late = asked.overdue.get(rollout_id, ())
    if late:
        hosts = [record.hostname for record in late]
        commands = _without(state, rollout_id, hosts, asked.now, may_skip=True)
        yield Need(
            NeedKind.OVERDUE,
            f"{_named(hosts)} of {rollout_id} "
            f"{'is' if len(late) == 1 else 'are'} past a deadline, and nothing follows from it.",
            f"Look at them{_OVERDUE_WORDS[tuple(_name_of(it) for it in commands)]}.",
            commands=commands,
            rollout_id=rollout_id,
            channel=rollout_id.channel,
            hosts=len(late),
        )


def _without(
    state: State, rollout_id: RolloutId, hosts: Iterable[str], now: datetime, *, may_skip: bool
) -> tuple[str, ...]:
    """Return what goes on without the first of these hosts, as many as a text names."""
    named = sorted(islice(hosts, NAMED_MAX))
    return absent_commands(state, rollout_id, named, now, may_skip=may_skip)


def _name_of(command: str) -> str:
    return command.partition(" ")[0]


def _unstaged(state: State, rollout_id: RolloutId, waves: tuple[WaveStatus, ...]) -> Iterator[Need]:
    count = sum(wave.total for wave in waves if wave.wave is None)
    if count and state.view.rollout(rollout_id).state.is_live:
        yield Need(
            NeedKind.UNSTAGED,
            f"{hosts_words(count)} of {rollout_id} {'is' if count == 1 else 'are'} in no wave, "
            "and never dispatched.",
            "Release a declaration with a wave that selects them, or excuse them.",
            rollout_id=rollout_id,
            channel=rollout_id.channel,
            hosts=count,
        )


def _drifts(state: State, rollout_id: RolloutId) -> Iterator[Need]:
    drifted = state.view.rollout(rollout_id).drifted
    if drifted and state.view.terms(rollout_id).on_drift is OnDrift.REPORT:
        yield Need(
            NeedKind.DRIFT,
            f"{_named(drifted.keys())} of {rollout_id} {'runs' if len(drifted) == 1 else 'run'} "
            "another closure than the one converged to.",
            # Not `retry`: that is for hosts that failed, and is refused.
            "Switch them back on the machines, or release what they run.",
            min(drift.since for drift in drifted.values()),
            rollout_id=rollout_id,
            channel=rollout_id.channel,
            hosts=len(drifted),
        )


def _freshness(rollout_id: RolloutId, signed_at: datetime | None, asked: Asked) -> Iterator[Need]:
    stale_at = asked.stale_at.get(rollout_id)
    if stale_at is None or signed_at is None:
        return
    if stale_at - asked.now > min(SOON, (stale_at - signed_at) / SOON_SHARE):
        return
    is_over = stale_at <= asked.now
    text = (
        f"Hosts refuse {rollout_id} since {minute(stale_at)}: its signature is too old."
        if is_over
        else f"Hosts accept {rollout_id} until {minute(stale_at)}."
    )
    yield Need(
        NeedKind.FRESHNESS,
        text,
        "Sign the release again.",
        since=stale_at if is_over else None,
        until=None if is_over else stale_at,
        rollout_id=rollout_id,
        channel=rollout_id.channel,
    )


def _release(notices: FleetNotices) -> Iterator[Need]:
    if notices.release_problem is not None:
        yield Need(
            NeedKind.RELEASE_DIRECTORY,
            f"The release cannot be read: {notices.release_problem}.",
            "Repair the release directory; what is in force stays in force.",
        )
    for artefact in notices.refused_artefacts[:NEEDS_MAX]:
        yield Need(
            NeedKind.ARTEFACT,
            f"{artefact.name} is refused: {artefact.reason}.",
            "Publish a release that is in order.",
            artefact.since,
            subject=artefact.name,
        )
    for what in notices.left_out[:NEEDS_MAX]:
        yield Need(NeedKind.LEFT_OUT, f"{what}.", "The start left this out of the database.")


def _enrollments(refused: tuple[RefusedEnrollment, ...]) -> Iterator[Need]:
    if refused:
        yield Need(
            NeedKind.ENROLLMENT,
            f"{_named(each.hostname for each in refused)} may not enroll: "
            f"{refused[0].hostname}: {refused[0].reason}.",
            "Give each a token that fits, or let it be.",
            min(each.last_at for each in refused),
            hosts=len(refused),
        )


def _refusing(count: int) -> Iterator[Need]:
    if count:
        yield Need(
            NeedKind.REFUSING,
            f"{hosts_words(count)} {'does' if count == 1 else 'do'} not act on something, "
            "and say why with each heartbeat.",
            "Read why, and repair the release or the host.",
            commands=("hosts",),
            hosts=count,
        )


def _named(names: Iterable[str]) -> str:
    """Return `web-01`, `web-01 and web-02`, or `web-01, web-02, web-03 and 4 more`."""
    found = list(names)
    if len(found) == 1:
        return found[0]
    shown, more = found[:NAMED_MAX], len(found) - NAMED_MAX
    if more > 0:
        return f"{', '.join(shown)} and {more:,} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
