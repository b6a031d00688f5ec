"""The inputs of the control plane in a bounded world, and when each is possible."""

from collections.abc import Iterator
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_testing.explore.bounds import CHANNEL, Bounds
from nixfleet_testing.explore.timing import has_time
from nixfleet_testing.explore.world import ControlPlane


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


Input: TypeAlias = Hear | Publish | Pause | Resume | Clear | Retire | PassTime | HearOf | Abort


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
    if opened:
        yield from _of_time(bounds, control_plane)


def _of_time(bounds: Bounds, control_plane: ControlPlane) -> Iterator[tuple[Input, str]]:
    rollout, release = control_plane.rollouts[-1], len(control_plane.rollouts) - 1
    for host, seats in enumerate(control_plane.seats):
        name, seat = bounds.hostnames[host], seats[release]
        if has_time(bounds, rollout, seat):
            yield PassTime(host, is_off=True), f"the time of {name} passes"
            if seat.is_queued:
                yield PassTime(host, is_off=False), f"the time of {name} passes; it is heard of"
        if rollout.state.is_served and seat.standing.is_silent:
            yield HearOf(host), f"{name} is heard of"
