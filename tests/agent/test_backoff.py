"""The waits between retries: longer each time, partly random, and ended early when a companion succeeds."""

import pytest

from nixfleet_agent.workers.backoff import LAST_SECONDS, RETRY_AFTER_SECONDS_MAX, Backoff


def backoff(chance: float = 0.0, companions: list[Backoff] | None = None) -> Backoff:
    return Backoff(lambda: chance, companions)


@pytest.mark.parametrize(
    ("chance", "seconds"),
    [
        (0.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        (1.0, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
    ],
)
def test_the_wait_doubles_up_to_a_minute_and_half_of_it_is_chance(
    chance: float, seconds: list[float]
) -> None:
    """Between half and all of one second at first, of one minute at last."""
    waiting = backoff(chance)
    assert [waiting.next_seconds() for _ in seconds] == seconds
    assert LAST_SECONDS == 60.0


def test_after_a_success_it_begins_anew() -> None:
    """What failed long ago does not make the next failure wait longer."""
    waiting = backoff()
    for _ in range(5):
        waiting.next_seconds()
    waiting.reset()
    assert waiting.next_seconds() == 0.5


def test_what_was_asked_for_is_honoured_within_reason() -> None:
    """Longer than its own wait, it counts; a day would let one answer silence a host."""
    waiting = backoff()
    assert waiting.next_seconds(at_least_seconds=30.0) == 30.0
    assert waiting.next_seconds(at_least_seconds=86_400.0) == RETRY_AFTER_SECONDS_MAX
    assert waiting.next_seconds(at_least_seconds=0.1) == 2.0


@pytest.mark.parametrize(("asked", "is_ended"), [(None, True), (30.0, False)])
def test_a_success_of_one_ends_the_waits_of_its_companions(
    asked: float | None, is_ended: bool
) -> None:
    """Except a wait that the control plane asked for."""
    companions: list[Backoff] = []
    first, second = backoff(0.0, companions), backoff(0.0, companions)
    first.next_seconds()
    wait = next(second.pause(asked))
    first.reset()

    assert (wait.wakeup is not None and wait.wakeup.is_set) is is_ended


def test_a_pause_lasts_although_an_earlier_one_was_ended() -> None:
    """A success ends the waits under way, not those to come."""
    waiting = backoff()
    waiting.hurry()
    wait = next(waiting.pause())

    assert wait.wakeup is not None
    assert not wait.wakeup.is_set


def test_a_success_after_a_success_ends_no_wait() -> None:
    """Only a success after a failure says anything new."""
    companions: list[Backoff] = []
    first, second = backoff(0.0, companions), backoff(0.0, companions)
    wait = next(second.pause())
    first.reset()

    assert wait.wakeup is not None
    assert not wait.wakeup.is_set
