"""The memory of used nonces: once each, for as long as a signature can be fresh, and not a second longer."""

from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import (
    NonceMemoryFull,
    ReplayedNonce,
    SignedBeforeStart,
    SkewedClock,
)

T0 = datetime(2026, 5, 16, 12, tzinfo=UTC)
WINDOW = 60
WEB = "host:web-01"


def at(seconds: float) -> datetime:
    """The time that is `seconds` after the start."""
    return T0 + timedelta(seconds=seconds)


def second(seconds: int) -> int:
    """As `at`, as signatures say it."""
    return int(T0.timestamp()) + seconds


@pytest.fixture
def memory() -> NonceMemory:
    return NonceMemory(WINDOW, T0)


def test_a_nonce_used_a_second_time_is_refused(memory: NonceMemory) -> None:
    """A nonce is good once, and the refusal says whose it was."""
    memory.take(WEB, "n-1", second(0), at(0))

    with pytest.raises(ReplayedNonce) as refusal:
        memory.take(WEB, "n-1", second(0), at(1))

    assert (refusal.value.key_id, refusal.value.nonce) == (WEB, "n-1")
    assert refusal.value.status == 401


def test_the_same_nonce_of_another_key_is_taken(memory: NonceMemory) -> None:
    """Hosts need not know each other's nonces: none can use up another's."""
    memory.take(WEB, "n-1", second(0), at(0))
    memory.take("host:web-02", "n-1", second(0), at(0))

    assert len(memory) == 2


@pytest.mark.parametrize("created", [-WINDOW, WINDOW])
def test_a_signature_at_the_edge_of_the_window_is_taken(created: int) -> None:
    """The window is inclusive, either way."""
    NonceMemory(WINDOW, at(-WINDOW)).take(WEB, "n-1", second(created), at(0.9))


@pytest.mark.parametrize(
    ("created", "words"),
    [
        (-WINDOW - 1, "created 61 s behind the server's clock; expected at most 60 s"),
        (WINDOW + 1, "created 61 s ahead of the server's clock; expected at most 60 s"),
    ],
)
def test_a_signature_from_outside_the_window_is_refused_with_the_skew(
    created: int, words: str
) -> None:
    """The refusal carries the skew as a number, for programs, and in words, for people."""
    with pytest.raises(SkewedClock) as refusal:
        NonceMemory(WINDOW, at(-600)).take(WEB, "n-1", second(created), at(0))

    assert refusal.value.skew_seconds == created
    assert words in str(refusal.value)
    assert refusal.value.as_problem().extensions == {"skewSeconds": created, "windowSeconds": 60}


def test_a_replay_at_the_last_moment_of_freshness_is_refused() -> None:
    """A nonce from a clock that is ahead is remembered for twice the window."""
    memory = NonceMemory(WINDOW, at(0))
    memory.take(WEB, "n-1", second(WINDOW), at(0))

    with pytest.raises(ReplayedNonce):
        memory.take(WEB, "n-1", second(WINDOW), at(2 * WINDOW + 0.9))


def test_nonces_that_can_no_longer_be_fresh_are_forgotten(memory: NonceMemory) -> None:
    """Memory holds what may come again and nothing else."""
    for number in range(10):
        memory.take(WEB, f"n-{number}", second(number), at(number))

    memory.take(WEB, "n-10", second(65), at(65))

    assert len(memory) == 6  # of seconds 5 to 9, and the new one


def test_a_clock_that_is_set_back_does_not_make_a_forgotten_nonce_good_again(
    memory: NonceMemory,
) -> None:
    """What was created in a second that has been forgotten is refused for good."""
    memory.take(WEB, "n-1", second(0), at(0))
    memory.take(WEB, "n-2", second(100), at(100))

    with pytest.raises(SignedBeforeStart) as refusal:
        memory.take(WEB, "n-1", second(0), at(0))

    assert refusal.value.good_from == at(1)


def test_a_clock_that_was_far_ahead_for_a_while_locks_nobody_out(memory: NonceMemory) -> None:
    """Only what was really taken and forgotten is refused, not all that lies before a wrong time."""
    memory.take(WEB, "n-1", second(0), at(0))
    memory.take(WEB, "n-2", second(10**8), at(10**8))

    memory.take(WEB, "n-3", second(1), at(1))
    memory.take(WEB, "n-4", second(200), at(200))

    assert len(memory) == 2  # the last one, and the one from far ahead


def test_a_signature_from_before_the_start_is_refused() -> None:
    """A restart makes no replay possible: whoever ran before may have taken the nonce."""
    memory = NonceMemory(WINDOW, at(0.5))

    with pytest.raises(SignedBeforeStart) as refusal:
        memory.take(WEB, "n-1", second(0), at(0.6))

    assert (refusal.value.created, refusal.value.good_from) == (at(0), at(1))
    assert "sign again" in str(refusal.value)
    memory.take(WEB, "n-2", second(1), at(1))


def test_a_full_memory_refuses_rather_than_forgets() -> None:
    """At the limit nobody is let in until the oldest second may be forgotten; the refusal says when."""
    memory = NonceMemory(WINDOW, at(0), limit=2)
    memory.take(WEB, "n-1", second(0), at(0))
    memory.take(WEB, "n-2", second(5), at(5))

    with pytest.raises(NonceMemoryFull) as refusal:
        memory.take(WEB, "n-3", second(10), at(10))

    assert (refusal.value.limit, refusal.value.retry_after_seconds) == (2, 51)
    assert refusal.value.status == 503
    assert refusal.value.headers == {"Retry-After": "51"}
    memory.take(WEB, "n-3", second(61), at(61))


def test_a_replay_is_called_that_also_when_the_memory_is_full() -> None:
    """Who replays learns nothing of how full the memory is."""
    memory = NonceMemory(WINDOW, at(0), limit=1)
    memory.take(WEB, "n-1", second(0), at(0))

    with pytest.raises(ReplayedNonce):
        memory.take(WEB, "n-1", second(0), at(1))
