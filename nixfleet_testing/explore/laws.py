"""What must hold in every world. Written from the specification, not from the code that it checks.

Each law is about one part of a world, so it is checked once for each distinct part: an agent, a control plane, one
input of the control plane, one host on both sides, or a world in which no move is left.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum

import attrs

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus, RollbackComplete
from nixfleet_state_machine.host.errors import SeqRegression, TransitionError
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_testing.explore.bounds import LIVED_AT, Bounds
from nixfleet_testing.explore.machine import ReducerSet
from nixfleet_testing.explore.world import Agent, ControlPlane, Seat, Seats

ELIGIBLE = frozenset({HostState.CONVERGED, HostState.DEFERRED})
IN_FLIGHT = frozenset({HostState.ACTIVATING, HostState.SOAKING})
FALLEN = frozenset({HostState.FAILED, HostState.REVERTED})
UNDER_WAY = frozenset({RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING})
HALTED = frozenset({RolloutState.FAILED, RolloutState.REVERTED})
LIVE = UNDER_WAY | HALTED


class Law(StrEnum):
    """Completes "it is a law that …"."""

    NOTHING_REFUSED = "no reducer refuses what really happened"
    MIRROR = "a mirror equals the agent's own record after the same facts"
    REPEATED = "a fact that comes again is refused and changes nothing"
    FOUR_RULES = "a Converged host satisfies the four rules"
    RUNNING = "a Converged host runs its target, a Reverted one what it ran before"
    QUARANTINE = (
        "a closure that ran and was rolled back is quarantined, and none that is waits in the queue"
    )
    WITHDRAWN = "nothing waits in the queue for a rollout that is halted, paused or superseded"
    QUEUE = "a dispatch waits only for a host that has not acknowledged it"
    WAVE_DONE = "the wave cursor moves only past waves whose hosts are all done or excused"
    WAVE_STARTED = "no host is dispatched or under way whose wave has not been reached"
    WAVE_RISES = "the wave cursor never falls"
    BUDGET = "no dispatch is queued beyond the budget"
    ONE_LIVE = "a channel has at most one live rollout, and that is the one it names"
    TIMES = "a Terminal rollout has its terminal_at, a Superseded one its superseded_at"
    HALTS = "a rollout in which a host fails or reverts is halted until an operator clears it"
    ENDS = "a rollout is Terminal when, and only when, every host is Converged or excused"
    STAYS = "a rollout that came to its end stays there, unless superseded"
    PLAN_ENDS = "a plan that is followed comes to an end"
    ONE_PLAN = "the plan over the kept view decides what one over a fresh view does"
    RESTS = (
        "when nobody has anything left to do, every rollout is at an end or waits for an operator"
    )


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


def of_control_plane(bounds: Bounds, control_plane: ControlPlane) -> Iterator[Breach]:
    """Yield what is wrong with what the control plane knows."""
    live = [record for record in control_plane.rollouts if record.state in LIVE]
    if len(live) > 1 or live != [r for r in control_plane.rollouts[-1:] if r.state in LIVE]:
        yield Law.ONE_LIVE, f"live are {[record.rollout_id for record in live]}"
    for release, record in enumerate(control_plane.rollouts):
        if record.state is RolloutState.TERMINAL and record.terminal_at is None:
            yield Law.TIMES, f"{record.rollout_id} is Terminal without a time"
        if record.state is RolloutState.SUPERSEDED and record.superseded_at is None:
            yield Law.TIMES, f"{record.rollout_id} is Superseded without a time"
        yield from _of_end(control_plane, release)
        for host, seats in enumerate(control_plane.seats):
            name = f"{bounds.hostnames[host]} in {record.rollout_id}"
            yield from _of_seat(control_plane, release, name, seats[release])
            if not bounds.retire and _is_unquarantined(control_plane, seats[release]):
                yield Law.QUARANTINE, f"{name} was rolled back, and its closure is not quarantined"
            if bounds.wave_of[host] > record.current_wave and _is_started(seats[release]):
                yield Law.WAVE_STARTED, f"{name} started in wave {record.current_wave}"


def of_turn(bounds: Bounds, before: ControlPlane, after: ControlPlane) -> Iterator[Breach]:
    """Yield what is wrong with how the control plane moved."""
    if not bounds.retire and not before.quarantined <= after.quarantined:
        yield Law.QUARANTINE, f"only {set(after.quarantined)} of {set(before.quarantined)} are left"
    for release, (was, now) in enumerate(zip(before.rollouts, after.rollouts, strict=False)):
        if now.current_wave < was.current_wave:
            yield Law.WAVE_RISES, f"{now.rollout_id}: {was.current_wave} to {now.current_wave}"
        ended = was.state in (RolloutState.TERMINAL, RolloutState.SUPERSEDED)
        if ended and now.state not in (was.state, RolloutState.SUPERSEDED):
            yield Law.STAYS, f"{now.rollout_id} went from {was.state} to {now.state}"
        for wave in range(was.current_wave, now.current_wave):
            left = _not_done(bounds, after, release, wave)
            if left:
                yield Law.WAVE_DONE, f"{now.rollout_id} left wave {wave} with {left} not done"
    yield from _of_budget(bounds, before, after)


def of_rest(control_plane: ControlPlane) -> Iterator[Breach]:
    """Yield what is wrong in a world in which no host has a move left and no fact is on the way.

    Every move of hosts and facts adds a fact to a journal or to a mirror, and a host has finitely many facts: so every
    run of such moves ends in such a world. If the law holds in all of these, no world is stuck.
    """
    for record in control_plane.rollouts:
        if record.state in UNDER_WAY and not _waits_for_operator(control_plane):
            yield Law.RESTS, f"{record.rollout_id} is {record.state}, and nobody will move it"


def _waits_for_operator(control_plane: ControlPlane) -> bool:
    """Whether the channel is paused, or what is left of its rollout waits for a quarantined closure."""
    if control_plane.is_paused:
        return True
    release = len(control_plane.rollouts) - 1
    left = [seats[release] for seats in control_plane.seats if not _is_over(seats[release])]
    return all(
        seat.record.state is HostState.PENDING
        and not seat.is_queued
        and seat.record.target_closure in control_plane.quarantined
        for seat in left
    )


def _of_end(control_plane: ControlPlane, release: int) -> Iterator[Breach]:
    record = control_plane.rollouts[release]
    seats = [seats[release] for seats in control_plane.seats]
    fallen = sum(seat.record.state in FALLEN and not seat.is_excused for seat in seats)
    if record.state in UNDER_WAY and fallen:
        yield Law.HALTS, f"{record.rollout_id} is {record.state} with {fallen} fallen hosts"
    is_over = all(map(_is_over, seats))
    if record.state in UNDER_WAY and is_over:
        yield Law.ENDS, f"{record.rollout_id} is {record.state}, and every host is over"
    if record.state is RolloutState.TERMINAL and not is_over:
        yield Law.ENDS, f"{record.rollout_id} is Terminal, and not every host is over"


def _of_seat(control_plane: ControlPlane, release: int, name: str, seat: Seat) -> Iterator[Breach]:
    yield from _four_rules(name, seat.record)
    if not seat.is_queued:
        return
    rollout = control_plane.rollouts[release]
    if seat.record.state is not HostState.PENDING:
        yield Law.QUEUE, f"a dispatch waits for {name}, which is {seat.record.state}"
    if rollout.state not in UNDER_WAY:
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
            if after.rollouts[release].state in LIVE:
                in_flight += seat.is_queued or seat.record.state in IN_FLIGHT
            dispatched += seat.is_queued and (host, release) not in waited
    if bounds.budget is not None and dispatched and in_flight > bounds.budget:
        yield Law.BUDGET, f"{in_flight} hosts in flight, expected at most {bounds.budget}"


def _not_done(bounds: Bounds, control_plane: ControlPlane, release: int, wave: int) -> list[str]:
    return [
        bounds.hostnames[host]
        for host, seats in enumerate(control_plane.seats)
        if bounds.wave_of[host] == wave
        and not seats[release].is_excused
        and seats[release].record.state not in ELIGIBLE
    ]


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


def _is_unquarantined(control_plane: ControlPlane, seat: Seat) -> bool:
    record = seat.record
    ran = record.state is HostState.REVERTED and record.activation_completed_at is not None
    return ran and record.target_closure not in control_plane.quarantined


def _is_started(seat: Seat) -> bool:
    return seat.is_queued or seat.record.state is not HostState.PENDING


def _is_over(seat: Seat) -> bool:
    return seat.is_excused or seat.record.state is HostState.CONVERGED
