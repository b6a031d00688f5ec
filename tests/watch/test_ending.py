"""When a wait of `nixfleet watch --until` ends, and whether it came so."""

import pytest

from nixfleet_cli.watch.ending import Until, ending_of
from nixfleet_runtime.http.overview import Course
from tests.watch.samples import need, overview, rollout

GOING_ON = (Course.GOING_WELL, Course.HAS_FAILURES, Course.HELD)


@pytest.mark.parametrize("until", [Until.DONE, Until.HALTED])
@pytest.mark.parametrize("course", GOING_ON)
def test_a_rollout_that_goes_on_is_waited_for(course: Course, until: Until) -> None:
    assert ending_of(overview(rollout(course)), until) is None


@pytest.mark.parametrize("until", Until)
def test_a_fleet_without_a_rollout_is_waited_for(until: Until) -> None:
    """A release may come."""
    assert ending_of(overview(), until) is None


@pytest.mark.parametrize(
    ("course", "until", "is_reached"),
    [
        (Course.COMPLETE, Until.DONE, True),
        (Course.HALTED, Until.DONE, False),
        (Course.ABORTED, Until.DONE, False),
        (Course.LOST, Until.DONE, False),
        (Course.SUPERSEDED, Until.DONE, False),
        (Course.HALTED, Until.HALTED, True),
        (Course.ABORTED, Until.HALTED, True),
        (Course.LOST, Until.HALTED, True),
        (Course.COMPLETE, Until.HALTED, False),
        (Course.SUPERSEDED, Until.HALTED, False),
        (Course.COMPLETE, Until.DECISION, False),
        (Course.SUPERSEDED, Until.DECISION, False),
    ],
)
def test_a_rollout_that_is_over_or_stands_still_ends_the_wait(
    course: Course, until: Until, is_reached: bool
) -> None:
    ending = ending_of(overview(rollout(course)), until)
    assert ending is not None
    assert (ending.is_reached, str(course) in ending.text) == (is_reached, True)


def test_one_of_two_rollouts_that_is_complete_does_not_end_the_wait_for_done() -> None:
    both = overview(rollout(Course.COMPLETE), rollout(Course.GOING_WELL, "edge@r2"))
    assert ending_of(both, Until.DONE) is None


def test_one_of_two_rollouts_that_is_halted_ends_the_wait_for_done() -> None:
    both = overview(rollout(Course.GOING_WELL), rollout(Course.HALTED, "edge@r2"))
    ending = ending_of(both, Until.DONE)
    assert ending is not None
    assert ending.text.startswith("edge@r2 is halted")


@pytest.mark.parametrize("course", GOING_ON)
def test_a_need_of_a_rollout_ends_the_wait_for_a_decision(course: Course) -> None:
    ending = ending_of(overview(rollout(course, needs_you=(need("Approve it."),))), Until.DECISION)
    assert ending is not None
    assert (ending.is_reached, ending.text) == (True, "Approve it.")


def test_a_need_of_the_fleet_ends_the_wait_for_a_decision() -> None:
    ending = ending_of(overview(rollout(), needs=(need("A host knocks."),)), Until.DECISION)
    assert ending is not None
    assert (ending.is_reached, ending.text) == (True, "A host knocks.")
