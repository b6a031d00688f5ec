"""The laws of the pace of a budget, from the specification alone: what is found instead, if anything.

Source: docs/spec/pace.md.
"""

from collections.abc import Iterator

from nixfleet_state_machine.host.state import HostState
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.inputs import Input, MinutePasses
from nixfleet_testing.explore.world import ControlPlane, Seat


def dispatched_in(before: ControlPlane, after: ControlPlane, release: int) -> int:
    """Return how many hosts of a release were dispatched."""
    known = release < len(before.rollouts)
    return sum(
        seats[release].is_queued and not (known and before.seats[host][release].is_queued)
        for host, seats in enumerate(after.seats)
    )


def too_many_under_way(bounds: Bounds, before: ControlPlane, after: ControlPlane) -> Iterator[str]:
    """Yield the releases that dispatched a host although as many were under way as the ramp has slots."""
    for release, rollout in enumerate(after.rollouts):
        if bounds.ramp is None or not dispatched_in(before, after, release):
            continue
        of_release = [seats[release] for seats in after.seats]
        converged = sum(seat.record.state is HostState.CONVERGED for seat in of_release)
        under_way = sum(_is_under_way(seat) for seat in of_release)
        slots = _slots(bounds, converged)
        if under_way > slots:
            yield f"{rollout.rollout_id}: {under_way} hosts under way, expected at most {slots}"


def too_many_in_a_minute(
    bounds: Bounds, before: ControlPlane, input: Input, after: ControlPlane
) -> Iterator[str]:
    """Yield where more hosts began than a minute has slots, or slots came back by anything but the minute."""
    if bounds.per_minute is None:
        return
    began = sum(dispatched_in(before, after, release) for release in range(len(after.rollouts)))
    taken = began + (0 if isinstance(input, MinutePasses) else before.in_minute)
    if began and taken > bounds.per_minute:
        yield f"{taken} hosts began within a minute, expected at most {bounds.per_minute}"
    if after.in_minute != taken:
        yield f"{after.in_minute} slots of the minute are taken, expected {taken}"


def _slots(bounds: Bounds, converged: int) -> int:
    assert bounds.ramp is not None
    slots, factor = bounds.ramp
    slots = min(slots, bounds.limit)
    while factor > 1 and slots < bounds.limit and converged >= slots:
        converged -= slots
        slots = min(slots * factor, bounds.limit)
    return slots


def _is_under_way(seat: Seat) -> bool:
    acts = seat.record.state in (HostState.ACTIVATING, HostState.SOAKING)
    return not seat.standing.is_silent and (seat.is_queued or acts)
