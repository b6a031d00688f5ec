"""Dying between any two steps of a rollout with a rollback breaks nothing."""

from nixfleet_simulation.report.crash_points import crash_points
from nixfleet_simulation.scenario.acts import Boundary

EVERY = 9
"""Of so many points one, which meets every kind of boundary; `make soak` goes through all."""


def test_dying_at_a_boundary_breaks_no_promise() -> None:
    """Each side, at its writes and sends, in turn."""
    points = list(crash_points(every=EVERY))

    assert [point for point in points if point.broken is not None] == []
    assert {point.boundary for point in points} == set(Boundary) - {Boundary.AT_ONCE}
