"""Dying between any two steps of a rollout with a rollback, and of one that is recalled, breaks nothing."""

from nixfleet_simulation.report.crash_points import RECALL, crash_points
from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.acts import Boundary

EVERY = 17
"""Of so many points one, which meets every kind of boundary; `make soak` goes through all."""


def test_dying_at_a_boundary_breaks_no_promise() -> None:
    """Each side, at its writes and sends, in turn."""
    points = list(crash_points(every=EVERY))

    assert [point for point in points if point.broken is not None] == []
    assert {point.boundary for point in points} == set(Boundary) - {Boundary.AT_ONCE}


def test_each_host_goes_back_by_the_recall_whose_crash_points_are_run() -> None:
    """Otherwise the script would have nothing to crash in."""
    outcome = run(RECALL, keeps_lines=True)

    recalled = [who for _, who, what in outcome.trace.story if what.endswith(": Recalled")]
    assert sorted(recalled) == ["host-01", "host-02"]
