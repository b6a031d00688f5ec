"""What must hold in every world. Written from the specification, not from the code that it checks.

Each law is about one part of a world, so it is checked once for each distinct part: an agent, a control plane, one
input of the control plane, one host on both sides, or a world in which no move is left.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto
from typing import NamedTuple, assert_never

import attrs

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus, RollbackComplete
from nixfleet_state_machine.host.effect import LocalFireRollbackTo
from nixfleet_state_machine.host.errors import SeqRegression, TransitionError
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.blast_radius import budget_wedges
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore.bounds import LIVED_AT, Bounds
from nixfleet_testing.explore.guard_laws import begun_unasked, refused_to_hear, waits_for_guards
from nixfleet_testing.explore.inputs import (
    Abort,
    Amend,
    Answer,
    BakeEnds,
    Clear,
    Hear,
    HearOf,
    Input,
    Judge,
    MinutePasses,
    PassTime,
    Pause,
    Publish,
    Resume,
    Retire,
    Show,
    WaveTimeComes,
)
from nixfleet_testing.explore.pace_laws import too_many_in_a_minute, too_many_under_way
from nixfleet_testing.explore.timing import has_time, stage_of
from nixfleet_testing.explore.world import Agent, ControlPlane, Seat, Seats

ELIGIBLE = frozenset({HostState.CONVERGED, HostState.DEFERRED})
IN_FLIGHT = frozenset({HostState.ACTIVATING, HostState.SOAKING})
FALLEN = frozenset({HostState.FAILED, HostState.REVERTED})
UNDER_WAY = frozenset({RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING})
HALTED = frozenset({RolloutState.FAILED, RolloutState.REVERTED, RolloutState.ABORTED})
LIVE = UNDER_WAY | HALTED
ENDED = frozenset({RolloutState.TERMINAL, RolloutState.SUPERSEDED, RolloutState.ABORTED})


class Law(StrEnum):
    """Completes "it is a law that …"."""

    GUARDED = "a wave begins only when it was approved, and a denial halts its rollout"
    NOTHING_REFUSED = "no reducer refuses what really happened"
    MIRROR = "a mirror equals the agent's own record after the same facts"
    REPEATED = "a fact that comes again is refused and changes nothing"
    FOUR_RULES = "a Converged host satisfies the four rules"
    RUNNING = "a Converged host runs its target, a Reverted one what it ran before"
    QUARANTINE = (
        "a closure that ran and was rolled back is quarantined, and none that is waits in the queue"
    )
    BARRED = "only a closure that ran and was rolled back is quarantined, where no more may fail"
    WITHDRAWN = "nothing waits in the queue for a rollout that is halted, paused or superseded"
    QUEUE = "a dispatch waits only for a host that has not acknowledged it"
    WAVE_DONE = "the wave cursor moves only past waves that are done"
    WAVE_STARTED = "no host is dispatched or under way whose wave has not been reached"
    WAVE_RISES = "the wave cursor never falls"
    BUDGET = "no dispatch is queued beyond the budget"
    RAMP = "no dispatch is queued beyond the slots that the ramp has for its rollout"
    MINUTE = "no more hosts begin than a minute has slots, and only the minute gives them back"
    ONE_LIVE = "a channel has at most one live rollout, and that is the one it names"
    TIMES = "a Terminal rollout has its terminal_at, a Superseded one its superseded_at"
    HALTS = "a rollout in which more hosts of a wave fail than may is halted until it is cleared"
    ENDS = "a rollout is Terminal when, and only when, every wave has ended"
    STAYS = "a rollout that came to its end stays there, unless superseded"
    PLAN_ENDS = "a plan that is followed comes to an end"
    ONE_PLAN = "the plan over the kept view decides what one over a fresh view does"
    RESTS = (
        "when nobody has anything left to do, every rollout is at an end or waits for an operator"
    )
    IDLE = "a rollout that goes on has a host that counts under way, a hold or a time to come"
    HOLD = "a hold adds no dispatch"
    WAY_BACK = "nothing holds a way back"
    TIME = "what time makes due happens when it passes, and a host that is heard of is served again"
    STANDING = "a fact of a host gives it back what its silence took"
    ATTEMPTS = "no host makes more attempts than are declared, nor one that was not ordered"
    CLOCK = "while a rollout is held, or a drift is only reported, no time has a consequence"
    DRIFT = "a host has drifted if it is Converged and was found to run something else, and counts as before"
    MEMBERS = (
        "who leaves counts for nothing; who joins begins anew, and is late where its wave is done"
    )
    EARLY = "nothing is dispatched before the time of its wave"
    WORST = "the worst case that is computed is the worst that is reached"


Breach = tuple[Law, str]
"""A law and what was found instead."""


def of_agent(agent: Agent) -> Iterator[Breach]:
    """Yield what is wrong with what an agent knows of itself."""
    for life in agent.lives:
        if life is not None:
            yield from _four_rules("the host", life.record)
    release = agent.open_release
    life = None if release is None else agent.lives[release]
    if life is None:
        return
    record = life.record
    ought = {
        HostState.CONVERGED: record.target_closure,
        HostState.REVERTED: record.current_closure_at_dispatch,
    }
    if agent.running != ought.get(record.state, agent.running):
        yield (
            Law.RUNNING,
            f"the host is {record.state} and runs {agent.running}, expected {ought[record.state]}",
        )
    is_on_its_way_back = isinstance(agent.intent, LocalFireRollbackTo)
    # Of a host that is Failed nothing but a rollback is told.
    has_tried = isinstance(life.facts[-1], RollbackComplete)
    if record.is_rolling_back and not is_on_its_way_back and not has_tried:
        yield Law.WAY_BACK, "the host is to roll back, and does nothing"
    undone = [fact for fact in life.facts if isinstance(fact, RollbackComplete)]
    if record.state is HostState.REVERTED and undone[-1].exit_code != 0:
        yield Law.RUNNING, f"the host is Reverted by a rollback that exited {undone[-1].exit_code}"


def of_host(machine: ReducerSet, bounds: Bounds, agent: Agent, seats: Seats) -> Iterator[Breach]:
    """Yield what is wrong between an agent and what the control plane has of it."""
    for release, seat in enumerate(seats):
        life, mirror = agent.lives[release], seat.record
        if life is None:
            if mirror.state is not HostState.PENDING or mirror.last_event_seq:
                yield Law.MIRROR, f"the host never took the dispatch, and is {mirror.state}"
            continue
        heard = mirror.last_event_seq
        if heard > len(life.facts):
            yield Law.MIRROR, f"expected at most {len(life.facts)} facts, found {heard} heard"
            continue
        if seat.attempt > mirror.attempt or bounds.leaver:
            # The times of a dispatch that the host may not have taken, or of one before it left.
            mirror = _with_dispatch_of(mirror, life.records[heard])
        for name, lived, mirrored in _differences(life.records[heard], mirror):
            yield Law.MIRROR, f"{name}: expected {lived}, as the agent has it, found {mirrored}"
        for fact in life.facts[:heard]:
            try:
                after, _ = machine.step(mirror, Remote(fact), LIVED_AT, bounds.rollout_policy)
            except SeqRegression:
                continue
            except TransitionError as error:
                yield Law.REPEATED, f"expected it refused by its number, found: {error}"
            else:
                yield Law.REPEATED, f"{type(fact).__name__} came again and led to {after.state}"


def of_control_plane(bounds: Bounds, control_plane: ControlPlane, worst: int) -> Iterator[Breach]:
    """Yield what is wrong with what the control plane knows. worst: how many hosts may have failed at most."""
    failed = failed_of(bounds, control_plane)
    if failed > worst:
        yield Law.WORST, f"{failed} hosts failed, expected at most {worst}"
    yield from _barred(bounds, control_plane)
    live = [record for record in control_plane.rollouts if record.state in LIVE]
    if len(live) > 1 or live != [r for r in control_plane.rollouts[-1:] if r.state in LIVE]:
        yield Law.ONE_LIVE, f"live are {[record.rollout_id for record in live]}"
    for release, record in enumerate(control_plane.rollouts):
        if record.state is RolloutState.TERMINAL and record.terminal_at is None:
            yield Law.TIMES, f"{record.rollout_id} is Terminal without a time"
        if record.state is RolloutState.SUPERSEDED and record.superseded_at is None:
            yield Law.TIMES, f"{record.rollout_id} is Superseded without a time"
        yield from _of_end(bounds, control_plane, release)
        for host, seats in enumerate(control_plane.seats):
            name = f"{bounds.hostnames[host]} in {record.rollout_id}"
            yield from _of_seat(bounds, control_plane, release, name, seats[release])
            if not bounds.retire and _is_unquarantined(
                bounds, control_plane, release, seats[release]
            ):
                yield Law.QUARANTINE, f"{name} was rolled back, and its closure is not quarantined"
            if bounds.wave_of[host] > record.current_wave and _is_started(seats[release]):
                yield Law.WAVE_STARTED, f"{name} started in wave {record.current_wave}"


def of_turn(
    bounds: Bounds, before: ControlPlane, input: Input, after: ControlPlane
) -> Iterator[Breach]:
    """Yield what is wrong with how the control plane moved because of `input`."""
    yield from _of_input(bounds, before, input, after)
    if after.is_paused and not _queued(after) <= _queued(before):
        yield (
            Law.HOLD,
            f"{len(_queued(after) - _queued(before))} dispatches more wait, and it is paused",
        )
    if not bounds.retire and not before.quarantined <= after.quarantined:
        yield Law.QUARANTINE, f"only {set(after.quarantined)} of {set(before.quarantined)} are left"
    for release, (was, now) in enumerate(zip(before.rollouts, after.rollouts, strict=False)):
        if now.current_wave < was.current_wave:
            yield Law.WAVE_RISES, f"{now.rollout_id}: {was.current_wave} to {now.current_wave}"
        is_new_end = now.state is RolloutState.TERMINAL and was.state is not now.state
        if is_new_end and not _has_ended(bounds, after, release):
            yield Law.ENDS, f"{now.rollout_id} went to Terminal, and not every wave has ended"
        if was.state in ENDED and now.state not in _follow(was.state, input):
            yield Law.STAYS, f"{now.rollout_id} went from {was.state} to {now.state}"
        for wave in set(now.cleared_waves) - set(was.cleared_waves):
            count = _count(bounds, after, release, wave)
            if not isinstance(input, Clear) or count.total or not count.absent:
                yield Law.WAVE_DONE, f"{now.rollout_id}: wave {wave} was cleared of {count}"
        if bounds.guards.is_declared:
            yield from ((Law.GUARDED, it) for it in begun_unasked(bounds, was, now, input))
        for wave in range(max(0, was.current_wave), now.current_wave):
            count = _count(bounds, after, release, wave)
            if _verdict(bounds, count, count.eligible) is not _Verdict.DONE:
                yield (
                    Law.WAVE_DONE,
                    f"{now.rollout_id} left wave {wave}, which is not done: {count}",
                )
    for opened in after.rollouts[len(before.rollouts) :]:
        if bounds.guards.is_declared and opened.current_wave >= 0:
            yield Law.GUARDED, f"{opened.rollout_id} opened with a wave that nobody approved"
    yield from _of_budget(bounds, before, after)
    yield from ((Law.RAMP, found) for found in too_many_under_way(bounds, before, after))
    yield from ((Law.MINUTE, found) for found in too_many_in_a_minute(bounds, before, input, after))


def of_rest(bounds: Bounds, control_plane: ControlPlane) -> Iterator[Breach]:
    """Yield what is wrong in a world in which no host has a move left and no fact is on the way.

    Every move of hosts and facts adds a fact to a journal or to a mirror, and a host has finitely many facts: so every
    run of such moves ends in such a world. If the law holds in all of these, no world is stuck.
    """
    for record in control_plane.rollouts:
        if record.state in UNDER_WAY and not _is_at_rest(bounds, control_plane):
            yield Law.RESTS, f"{record.rollout_id} is {record.state}, and nobody will move it"


def failed_of(bounds: Bounds, control_plane: ControlPlane) -> int:
    """Return how many hosts count as failed in the rollout that the channel names."""
    release = len(control_plane.rollouts) - 1
    waves = range(bounds.waves if control_plane.rollouts else 0)
    return sum(_count(bounds, control_plane, release, wave).failed for wave in waves)


def _is_at_rest(bounds: Bounds, control_plane: ControlPlane) -> bool:
    """Whether a rollout in which nobody moves waits for a time or an operator, or was said to stand still."""
    rollout, release = control_plane.rollouts[-1], len(control_plane.rollouts) - 1
    seats = [seats[release] for seats in control_plane.seats]
    if any(has_time(bounds, rollout, seat) for seat in seats):
        return True
    if waits_for_guards(bounds, rollout):
        return True
    if budget_wedges(bounds.terms[release], bounds.policy):
        return True
    if bounds.per_minute is not None and control_plane.in_minute >= bounds.per_minute:
        return True
    is_down = any(
        seat.record.state is HostState.FAILED and seat.standing is Standing.COUNTED
        for seat in seats
    )
    # A host that could not roll back is down, and keeps its slot until it is excused: `budget_wedges` leaves that out.
    if bounds.budget is not None and bounds.tolerance and is_down:
        return True
    return _waits_for_operator(control_plane) or _waits_for_wave(bounds, control_plane)


def of_idleness(bounds: Bounds, control_plane: ControlPlane) -> Iterator[Breach]:
    """Yield what is wrong with the rollout that the channel names if nobody is under way in it."""
    release = len(control_plane.rollouts) - 1
    if release < 0:
        return
    record = control_plane.rollouts[release]
    seats = [seats[release] for seats in control_plane.seats]
    is_under_way = any(
        seat.standing is Standing.COUNTED and stage_of(seat) is not None for seat in seats
    )
    if record.state in UNDER_WAY and not is_under_way and not _is_at_rest(bounds, control_plane):
        counts = [_count(bounds, control_plane, release, wave) for wave in range(bounds.waves)]
        yield Law.IDLE, f"{record.rollout_id} is {record.state}, and waits for nobody: {counts}"


def _of_input(
    bounds: Bounds, before: ControlPlane, input: Input, after: ControlPlane
) -> Iterator[Breach]:
    match input:
        case Hear():
            seat = after.seats[input.host][input.release]
            name, fact = bounds.hostnames[input.host], input.fact
            worked = isinstance(fact, RollbackComplete) and fact.exit_code == 0
            if worked and seat.record.state is not HostState.REVERTED:
                yield Law.WAY_BACK, f"{name} told that it rolled back, and is {seat.record.state}"
            if before.rollouts[input.release].state.is_served and seat.standing.is_given_back:
                yield Law.STANDING, f"{name} reported, and is {seat.standing}"
        case PassTime():
            release = len(before.rollouts) - 1
            was, now = before.seats[input.host][release], after.seats[input.host][release]
            is_same = (was.standing, was.attempt) == (now.standing, now.attempt)
            is_due = has_time(bounds, before.rollouts[release], was)
            if not is_due and not is_same:
                yield Law.CLOCK, f"the time of {bounds.hostnames[input.host]} had a consequence"
            if is_due and is_same:
                yield (
                    Law.TIME,
                    f"the time of {bounds.hostnames[input.host]} passed, and nothing happened",
                )
        case HearOf():
            seat = after.seats[input.host][len(after.rollouts) - 1]
            if seat.standing.is_silent and seat.needs_dispatch and not seat.is_queued:
                yield (
                    Law.TIME,
                    f"{bounds.hostnames[input.host]} was heard of, and is {seat.standing}",
                )
        case Abort():
            found = after.rollouts[input.release]
            if found.state is not RolloutState.ABORTED:
                yield Law.STAYS, f"{found.rollout_id} was aborted, and is {found.state}"
        case Judge():
            found = after.rollouts[input.release]
            if input.outcome is Outcome.FAIL and not found.state.is_halted:
                yield Law.GUARDED, f"{found.rollout_id} was denied, and is {found.state}"
        case BakeEnds() | Answer():
            unheard = refused_to_hear(before.rollouts[input.release], input, after)
            if unheard is not None:
                yield Law.GUARDED, unheard
        case Publish() | Pause() | Resume() | Clear() | Retire() | MinutePasses():
            pass
        case Show() | Amend() | WaveTimeComes():
            pass  # `amended_laws` has those.
        case _:
            assert_never(input)


def _follow(ended: RolloutState, input: Input) -> set[RolloutState]:
    """Return the states that may follow an end: an operator may still abort one that is Terminal."""
    follow = {ended, RolloutState.SUPERSEDED}
    if isinstance(input, Abort) and ended is RolloutState.TERMINAL:
        follow.add(RolloutState.ABORTED)
    return follow


def _queued(control_plane: ControlPlane) -> set[tuple[int, int]]:
    return {
        (host, release)
        for host, seats in enumerate(control_plane.seats)
        for release, seat in enumerate(seats)
        if seat.is_queued
    }


def _barred(bounds: Bounds, control_plane: ControlPlane) -> Iterator[Breach]:
    """Of hosts that tried again nothing shows any more that they rolled back."""
    if bounds.attempts > 1:
        return
    left = {
        seat.record.target_closure
        for seats in control_plane.seats
        for release, seat in enumerate(seats)
        if _was_rolled_back(seat) and _bars(bounds, control_plane, release)
        if seat.standing is not Standing.LATE
    }
    if not control_plane.quarantined <= left:
        yield Law.BARRED, f"{set(control_plane.quarantined - left)} is quarantined"


def _bars(bounds: Bounds, control_plane: ControlPlane, release: int) -> bool:
    return not bounds.tolerance or control_plane.rollouts[release].broken_at is not None


def _waits_for_operator(control_plane: ControlPlane) -> bool:
    """Whether the channel is paused, or what is left of its rollout waits for a quarantined closure."""
    if control_plane.is_paused:
        return True
    release = len(control_plane.rollouts) - 1
    left = [seats[release] for seats in control_plane.seats if not _is_over(seats[release])]
    return all(
        seat.needs_dispatch
        and not seat.is_queued
        and seat.record.target_closure in control_plane.quarantined
        for seat in left
    )


def _waits_for_wave(bounds: Bounds, control_plane: ControlPlane) -> bool:
    """Whether the time of the wave that the rollout has reached is to come."""
    return bounds.timed and control_plane.rollouts[-1].current_wave >= control_plane.begun


def _of_end(bounds: Bounds, control_plane: ControlPlane, release: int) -> Iterator[Breach]:
    record = control_plane.rollouts[release]
    counts = [_count(bounds, control_plane, release, wave) for wave in range(bounds.waves)]
    most = max(_halting(bounds, control_plane, release, wave) for wave in range(bounds.waves))
    if record.state in UNDER_WAY and most > bounds.tolerance:
        yield Law.HALTS, f"{record.rollout_id} is {record.state} with {most} failed hosts in a wave"
    is_over = _has_ended(bounds, control_plane, release)
    if record.state in UNDER_WAY and is_over:
        yield Law.ENDS, f"{record.rollout_id} is {record.state}, and every wave has ended"
    # Nobody waits for a host that tries again after the end, and nothing is reopened by one that leaves.
    may_differ = bounds.attempts_most > 1 or bounds.leaver
    if record.state is RolloutState.TERMINAL and not is_over and not may_differ:
        yield Law.ENDS, f"{record.rollout_id} is Terminal, and not every wave has ended: {counts}"


def _of_seat(
    bounds: Bounds, control_plane: ControlPlane, release: int, name: str, seat: Seat
) -> Iterator[Breach]:
    yield from _four_rules(name, seat.record)
    # Of a host that joined again no attempt was ordered; its journal may tell of more.
    is_unordered = seat.record.attempt > seat.attempt and not bounds.leaver
    if is_unordered or max(seat.attempt, seat.record.attempt) > bounds.attempts_most:
        found = f"{name} makes attempt {seat.record.attempt}, ordered are {seat.attempt}"
        yield Law.ATTEMPTS, f"{found}, at most {bounds.attempts_most}"
    if not seat.is_queued:
        return
    rollout = control_plane.rollouts[release]
    if not seat.needs_dispatch:
        yield Law.QUEUE, f"a dispatch waits for {name}, which is {seat.record.state}"
    if rollout.state not in UNDER_WAY and not _is_served_late(rollout, seat):
        yield Law.WITHDRAWN, f"a dispatch waits for {name}, which is {rollout.state}"
    if control_plane.is_paused:
        yield Law.WITHDRAWN, f"a dispatch waits for {name}, which is paused"
    if seat.record.target_closure in control_plane.quarantined:
        yield Law.QUARANTINE, f"{seat.record.target_closure} waits for {name}"


def _of_budget(bounds: Bounds, before: ControlPlane, after: ControlPlane) -> Iterator[Breach]:
    """An acknowledgement that was on its way when its dispatch was withdrawn may exceed it; a dispatch may not."""
    waited = {
        (host, release)
        for host, seats in enumerate(before.seats)
        for release, seat in enumerate(seats)
        if seat.is_queued
    }
    in_flight, dispatched = 0, 0
    for host, seats in enumerate(after.seats):
        for release, seat in enumerate(seats):
            if after.rollouts[release].state.is_served:
                in_flight += _takes_slot(bounds, seat)
            dispatched += seat.is_queued and (host, release) not in waited
    if bounds.budget is not None and dispatched and in_flight > bounds.budget:
        yield Law.BUDGET, f"{in_flight} hosts in flight, expected at most {bounds.budget}"


def _takes_slot(bounds: Bounds, seat: Seat) -> bool:
    if seat.standing.is_silent:
        return False
    is_down = bool(bounds.tolerance) and seat.record.state is HostState.FAILED
    is_down = is_down and seat.standing is not Standing.EXCUSED
    return seat.is_queued or seat.record.state in IN_FLIGHT or is_down


def _is_served_late(rollout: RolloutRecord, seat: Seat) -> bool:
    is_late = seat.standing in (Standing.LATE, Standing.SKIPPED) or seat.attempt > 1
    return rollout.state is RolloutState.TERMINAL and is_late


class _Verdict(Enum):
    GOING = auto()
    DONE = auto()
    BROKEN = auto()


class _Count(NamedTuple):
    """The hosts of a wave, as the table of standings says how they count.

    is_cleared: an operator went on without any of them.
    """

    total: int = 0
    eligible: int = 0
    converged: int = 0
    failed: int = 0
    absent: int = 0
    is_cleared: bool = False


def _count(bounds: Bounds, control_plane: ControlPlane, release: int, wave: int) -> _Count:
    seats = [
        seats[release]
        for host, seats in enumerate(control_plane.seats)
        if bounds.wave_of[host] == wave
    ]
    counted = [seat.record for seat in seats if seat.standing is Standing.COUNTED]
    lapsed = sum(seat.standing is Standing.LAPSED for seat in seats)
    rollouts = control_plane.rollouts
    return _Count(
        total=len(counted) + lapsed,
        eligible=sum(record.state in ELIGIBLE for record in counted),
        converged=sum(record.state is HostState.CONVERGED for record in counted),
        failed=sum(map(_has_failed, counted)) + lapsed,
        absent=sum(seat.standing in (Standing.AWAY, Standing.SKIPPED) for seat in seats),
        is_cleared=release < len(rollouts) and wave in rollouts[release].cleared_waves,
    )


def _has_ended(bounds: Bounds, control_plane: ControlPlane, release: int) -> bool:
    counts = (_count(bounds, control_plane, release, wave) for wave in range(bounds.waves))
    return all(_verdict(bounds, each, each.converged) is _Verdict.DONE for each in counts)


def _halting(bounds: Bounds, control_plane: ControlPlane, release: int, wave: int) -> int:
    """Return how many hosts of a wave failed, without those that were cleared to try again: they halt nothing."""
    failed = _count(bounds, control_plane, release, wave).failed
    tries_again = [
        seat.standing is Standing.COUNTED and seat.attempt > 1 and _has_failed(seat.record)
        for host, seats in enumerate(control_plane.seats)
        if bounds.wave_of[host] == wave
        for seat in seats[release : release + 1]
        if seat.record.state not in FALLEN or seat.attempt > seat.record.attempt
    ]
    return failed - sum(tries_again) if bounds.clear else failed


def _has_failed(record: HostRolloutState) -> bool:
    """Whether the host failed, or tries again after that."""
    return record.state in FALLEN or (record.state not in ELIGIBLE and record.failed_at is not None)


def _verdict(bounds: Bounds, count: _Count, succeeded: int) -> _Verdict:
    if count.failed > bounds.tolerance:
        return _Verdict.BROKEN
    if succeeded + count.failed < count.total:
        return _Verdict.GOING
    if succeeded or not count.total + (0 if count.is_cleared else count.absent):
        return _Verdict.DONE
    return _Verdict.BROKEN


def _with_dispatch_of(record: HostRolloutState, other: HostRolloutState) -> HostRolloutState:
    return attrs.evolve(record, dispatched_at=other.dispatched_at, soak_due_at=other.soak_due_at)


def _differences(
    lived: HostRolloutState, mirrored: HostRolloutState
) -> Iterator[tuple[str, object, object]]:
    if lived != mirrored:
        for field in attrs.fields(HostRolloutState):
            pair: tuple[object, object] = getattr(lived, field.name), getattr(mirrored, field.name)
            if pair[0] != pair[1]:
                yield field.name, *pair


def _soak_end(record: HostRolloutState) -> datetime:
    """Return when the window that was dispatched has passed, since the queue and since the activation."""
    starts = (record.dispatched_at, record.activation_completed_at)
    due = record.soak_due_at
    if due is None or record.dispatched_at is None:
        return due or datetime.min.replace(tzinfo=UTC)
    window = due - record.dispatched_at
    return max(start + window for start in starts if start is not None)


def _four_rules(name: str, record: HostRolloutState) -> Iterator[Breach]:
    if record.state is not HostState.CONVERGED:
        return
    if record.current_closure != record.target_closure:
        yield Law.FOUR_RULES, f"{name} converged on {record.current_closure}"
    if record.converged_at is None or record.converged_at < _soak_end(record):
        found = (
            f"{name} converged at {record.converged_at}, and its soak ends at {_soak_end(record)}"
        )
        yield Law.FOUR_RULES, found
    reported = {
        probe: result.status
        for probe, result in record.probes.items()
        if result.mode is ProbeMode.ENFORCE
    }
    declared = (e.probe_name for e in record.declared_probes or () if e.mode is ProbeMode.ENFORCE)
    for probe in {*reported, *declared}:
        if reported.get(probe) is not ProbeStatus.PASS:
            yield Law.FOUR_RULES, f"{name} converged while probe {probe} did not pass"


def _is_unquarantined(
    bounds: Bounds, control_plane: ControlPlane, release: int, seat: Seat
) -> bool:
    ought = _was_rolled_back(seat) and _bars(bounds, control_plane, release)
    is_barred = seat.record.target_closure in control_plane.quarantined
    return ought and seat.standing is not Standing.LATE and not is_barred


def _was_rolled_back(seat: Seat) -> bool:
    record = seat.record
    return record.state is HostState.REVERTED and record.activation_completed_at is not None


def _is_started(seat: Seat) -> bool:
    return seat.is_queued or seat.record.state is not HostState.PENDING


def _is_over(seat: Seat) -> bool:
    return seat.standing is not Standing.COUNTED or seat.record.state is HostState.CONVERGED
