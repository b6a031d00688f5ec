"""The inputs of the control plane in a bounded world, and when each is possible."""

from collections.abc import Iterator
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.steering.guards import APPROVALS, BAKE
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.explore.bounds import BY_HAND, CHANNEL, CHECK, Bounds
from nixfleet_testing.explore.timing import has_time
from nixfleet_testing.explore.world import ControlPlane, Seat


@frozen
class Hear:
    """A fact of a host arrives. host: its place."""

    host: int
    release: int
    fact: AgentEvent


@frozen
class Publish:
    """CI publishes the next release."""


@frozen
class Pause:
    """An operator pauses the channel."""


@frozen
class Resume:
    """An operator resumes the channel."""


@frozen
class Clear:
    """An operator clears a halted rollout, excusing the hosts that failed or reverted."""

    release: int


@frozen
class Retire:
    """An operator retires the quarantine of a closure."""

    closure: str


@frozen
class PassTime:
    """The time of a host passes: what it is at takes longer than it may, or its back-off is over.

    is_off: nothing was heard of it meanwhile.
    """

    host: int
    is_off: bool


@frozen
class HearOf:
    """A heartbeat of a host arrives, which was silent past a deadline."""

    host: int


@frozen
class Abort:
    """An operator ends the rollout."""

    release: int


@frozen
class Show:
    """Two heartbeats in a row show what a host runs. Heartbeats may be stale: what they show need not be so."""

    host: int
    running: str


@frozen
class Amend:
    """CI signs the release again, without one of its hosts or with it."""

    joins: bool


@frozen
class WaveTimeComes:
    """The time of the next wave comes."""


@frozen
class MinutePasses:
    """A minute passes in which nothing is dispatched: the slots of all beginnings come back."""


@frozen
class Judge:
    """An operator approves or denies the next wave."""

    release: int
    outcome: Outcome


@frozen
class BakeEnds:
    """The bake of the next wave is over."""

    release: int


@frozen
class Answer:
    """The judge of the next wave's check answers."""

    release: int
    outcome: Outcome


Input: TypeAlias = (
    Judge
    | BakeEnds
    | Answer
    | Hear
    | Publish
    | Pause
    | Resume
    | Clear
    | Retire
    | PassTime
    | HearOf
    | Abort
    | Show
    | Amend
    | WaveTimeComes
    | MinutePasses
)


def commands(bounds: Bounds, control_plane: ControlPlane) -> Iterator[tuple[Input, str]]:
    """Yield the inputs that CI and operators may give now, each with a description."""
    opened = control_plane.rollouts
    if len(opened) < bounds.releases:
        yield Publish(), f"CI publishes {bounds.terms[len(opened)].rollout_id}"
    if bounds.pause and control_plane.is_paused:
        yield Resume(), f"an operator resumes {CHANNEL}"
    elif bounds.pause and opened:
        yield Pause(), f"an operator pauses {CHANNEL}"
    if bounds.clear and opened and opened[-1].state.is_clearable:
        yield Clear(len(opened) - 1), f"an operator clears {opened[-1].rollout_id}"
    if bounds.abort and opened and opened[-1].state is not RolloutState.ABORTED:
        yield Abort(len(opened) - 1), f"an operator aborts {opened[-1].rollout_id}"
    if bounds.retire:
        for closure in sorted(control_plane.quarantined):
            yield Retire(closure), f"an operator retires the quarantine of {closure}"
    if control_plane.in_minute:
        yield MinutePasses(), "a minute passes"
    if bounds.guarded and opened and is_awaiting_approval(bounds, opened[-1]):
        wave = opened[-1].current_wave + 1
        for outcome, said in ((Outcome.PASS, "approves"), (Outcome.FAIL, "denies")):
            yield Judge(len(opened) - 1, outcome), f"an operator {said} wave {wave}"
    if opened and is_baking(bounds, opened[-1]):
        yield BakeEnds(len(opened) - 1), "the bake of the next wave is over"
    for outcome in answers(bounds, opened[-1]) if opened else ():
        yield Answer(len(opened) - 1, outcome), f"the judge of the next wave says {outcome}"
    if opened:
        yield from _of_time(bounds, control_plane)
        yield from _of_drift(bounds, control_plane)
        yield from _of_members(bounds, control_plane)
    if bounds.timed and control_plane.begun < bounds.waves:
        yield WaveTimeComes(), f"the time of wave {control_plane.begun} comes"


def is_awaiting_approval(bounds: Bounds, record: RolloutRecord) -> bool:
    """Whether the next wave of a rollout has no approval yet. It may be given before the wave before is done."""
    wave = record.current_wave + 1
    return _has_next(bounds, record) and record.guard_tally(wave, APPROVALS) is None


def is_baking(bounds: Bounds, record: RolloutRecord) -> bool:
    """Whether the next wave waits for its bake, which has begun."""
    is_asked = bounds.bakes and _has_next(bounds, record) and record.guarded_since is not None
    return is_asked and record.guard_tally(record.current_wave + 1, BAKE) is None


def answers(bounds: Bounds, record: RolloutRecord) -> tuple[Outcome, ...]:
    """Return what the judge of the next wave may say that is new; it is asked until the wave begins."""
    if not bounds.checked or not _has_next(bounds, record) or record.guarded_since is None:
        return ()
    tally = record.guard_tally(record.current_wave + 1, CHECK.name)
    passes, unclear = (0, 0) if tally is None else (tally.passes, tally.inconclusive)
    return (
        Outcome.FAIL,
        *((Outcome.PASS,) if passes < CHECK.passes else ()),
        *((Outcome.INCONCLUSIVE,) if not unclear else ()),
    )


def _has_next(bounds: Bounds, record: RolloutRecord) -> bool:
    """Whether a rollout goes on and has a wave to come."""
    is_going = record.state.is_live and not record.state.is_halted
    return is_going and record.current_wave + 1 < bounds.waves


def _of_time(bounds: Bounds, control_plane: ControlPlane) -> Iterator[tuple[Input, str]]:
    rollout, release = control_plane.rollouts[-1], len(control_plane.rollouts) - 1
    for host, seats in enumerate(control_plane.seats):
        name, seat = bounds.hostnames[host], seats[release]
        if has_time(bounds, rollout, seat):
            yield PassTime(host, is_off=True), f"the time of {name} passes"
            if seat.is_queued:
                yield PassTime(host, is_off=False), f"the time of {name} passes; it is heard of"
        elif _stands(bounds, control_plane, seat):
            yield PassTime(host, is_off=True), f"the time of {name} passes, and has no meaning"
        if rollout.state.is_served and seat.standing.is_silent:
            yield HearOf(host), f"{name} is heard of"


def _stands(bounds: Bounds, control_plane: ControlPlane, seat: Seat) -> bool:
    """Whether the time of a host passes for which nothing may follow: it is held, or its drift is only reported."""
    is_held = control_plane.is_paused and seat.needs_dispatch and not seat.is_queued
    return (is_held and bounds.deadline is Stage.ACK) or seat.has_drifted


def _of_drift(bounds: Bounds, control_plane: ControlPlane) -> Iterator[tuple[Input, str]]:
    if bounds.on_drift is None:
        return
    release = len(control_plane.rollouts) - 1
    for host, seats in enumerate(control_plane.seats):
        name, seat = bounds.hostnames[host], seats[release]
        # One that was given its target back once is not moved away again: there would be no end.
        if seat.record.state in (HostState.SOAKING, HostState.CONVERGED):
            if seat.attempt <= bounds.attempts:
                yield Show(host, BY_HAND), f"{name} is found to run {BY_HAND}"
            yield Show(host, seat.record.target_closure), f"{name} is found to run its target"


def _of_members(bounds: Bounds, control_plane: ControlPlane) -> Iterator[tuple[Input, str]]:
    rollout, seat = control_plane.rollouts[0], control_plane.seats[bounds.leaver_place][0]
    if bounds.leaver and rollout.state not in (RolloutState.SUPERSEDED, RolloutState.ABORTED):
        has_left = seat.standing is Standing.LEFT
        yield (
            Amend(joins=has_left),
            f"{bounds.hostnames[bounds.leaver_place]} {'joins' if has_left else 'leaves'}",
        )
