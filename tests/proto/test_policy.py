"""What a policy may say: tolerances, deadlines and retries, with every contradiction refused by its place."""

import pytest

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.policy import (
    AtDeadline,
    Deadline,
    Deadlines,
    PolicyWave,
    Retry,
    RolloutPolicy,
    Selector,
    Tolerance,
)


@pytest.mark.parametrize(
    ("number", "share", "base", "allowed"),
    [
        (None, None, 100, 0),
        (3, None, 100, 3),
        (3, None, 2, 3),
        (None, 10, 100, 10),
        (None, 10, 19, 1),
        (None, 10, 9, 0),
        (None, 100, 7, 7),
        (5, 10, 30, 3),
        (2, 10, 30, 2),
        (0, 50, 30, 0),
        (None, 50, 0, 0),
    ],
)
def test_the_smaller_of_number_and_share_may_fail(
    number: int | None, share: int | None, base: int, allowed: int
) -> None:
    """A share is rounded down; where neither is given, no host may fail."""
    assert Tolerance(number, share).allowed(base) == allowed


def test_a_tolerance_of_none_is_declared_and_an_absent_one_is_not() -> None:
    """A wave can say that no host of it may fail, whatever its policy says."""
    assert Tolerance(0).is_declared
    assert Tolerance(None, 1).is_declared
    assert not Tolerance().is_declared


@pytest.mark.parametrize(
    ("number", "share", "paths"),
    [
        (-1, None, ["max_failures"]),
        (None, 0, ["max_failure_pct"]),
        (None, 101, ["max_failure_pct"]),
        (-1, -1, ["max_failures", "max_failure_pct"]),
    ],
)
def test_a_tolerance_that_cannot_be_is_refused(
    number: int | None, share: int | None, paths: list[str]
) -> None:
    """Every problem at once."""
    with pytest.raises(InvalidValue) as refusal:
        Tolerance(number, share)

    assert [problem.path for problem in refusal.value.problems] == paths


def test_a_deadline_of_no_minutes_is_refused() -> None:
    """Nothing can be done in none."""
    with pytest.raises(InvalidValue, match="minutes"):
        Deadline(0, AtDeadline.FAIL)


@pytest.mark.parametrize("stage", ["ack", "activation", "reboot", "convergence"])
def test_a_deadline_of_any_stage_is_declared(stage: str) -> None:
    """None is, unless one is given."""
    assert Deadlines(**{stage: Deadline(1, AtDeadline.WAIT)}).is_declared
    assert not Deadlines().is_declared


def test_a_retry_that_cannot_be_is_refused() -> None:
    """The first attempt is one, and a wait neither ends before it began nor shrinks."""
    with pytest.raises(InvalidValue) as refusal:
        Retry(attempts=0, backoff_seconds=-1, factor=0)

    paths = [problem.path for problem in refusal.value.problems]
    assert paths == ["attempts", "backoff_seconds", "factor"]


def test_a_policy_that_says_nothing_tolerates_nothing_and_tries_once() -> None:
    """As before there was anything to say."""
    policy = RolloutPolicy()

    assert policy.tolerance.allowed(1_000) == 0
    assert policy.retry.attempts == 1
    assert not policy.deadlines.is_declared


def test_a_wave_and_a_policy_have_the_tolerance_that_they_declare() -> None:
    """By both ways of saying it."""
    wave = PolicyWave(Selector(all=True), max_failures=2, max_failure_pct=5)
    policy = RolloutPolicy(max_failures=1, max_failure_pct=3)

    assert (wave.tolerance, policy.tolerance) == (Tolerance(2, 5), Tolerance(1, 3))


def test_deadlines_that_are_declared_are_listed_by_their_stages_in_order() -> None:
    """By the names of the wire; those that are not declared are left out."""
    each = [Deadline(minutes, AtDeadline.SKIP) for minutes in (1, 2, 3, 4)]
    by_stage = Deadlines(*each).by_stage()

    assert list(by_stage) == ["ack", "activation", "reboot", "convergence"]
    assert list(by_stage.values()) == each
    assert Deadlines(reboot=each[2]).by_stage() == {"reboot": each[2]}
    assert Deadlines().by_stage() == {}


def test_a_wave_that_cannot_be_is_refused_with_every_problem() -> None:
    """Its soak, and both of its numbers."""
    with pytest.raises(InvalidValue) as refusal:
        PolicyWave(Selector(all=True), -1, max_failures=-1, max_failure_pct=101)

    paths = [problem.path for problem in refusal.value.problems]
    assert paths == ["soak_minutes", "max_failures", "max_failure_pct"]


def test_a_policy_that_cannot_be_is_refused_with_every_problem() -> None:
    """Both of its numbers."""
    with pytest.raises(InvalidValue) as refusal:
        RolloutPolicy(max_failures=-1, max_failure_pct=0)

    paths = [problem.path for problem in refusal.value.problems]
    assert paths == ["max_failures", "max_failure_pct"]
