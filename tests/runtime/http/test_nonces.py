"""The memory of used nonces: once each, for as long as a signature can be fresh, and not a second longer."""

from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_runtime.http.signing.nonces import EarlierRequests, NonceMemory
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


def test_a_start_with_a_clock_that_was_ahead_locks_nobody_out() -> None:
    """Once the clock is right again, requests are accepted, not only when the time of the start has come."""
    memory = NonceMemory(WINDOW, at(10**8))

    memory.take(WEB, "n-1", second(5), at(5))

    with pytest.raises(SignedBeforeStart):
        memory.take(WEB, "n-2", second(10**8 - 1), at(10**8))


def test_seconds_forgotten_while_the_clock_was_ahead_lock_nobody_out(memory: NonceMemory) -> None:
    """Of a time that is yet to come, only the seconds in which something was accepted are refused."""
    for number in range(200):
        memory.take(WEB, f"n-{number}", second(10**8 + number), at(10**8 + number))

    memory.take(WEB, "n", second(5), at(5))

    with pytest.raises(SignedBeforeStart):
        memory.take(WEB, "n-0", second(10**8), at(10**8))


def test_few_requests_over_a_long_time_take_little_memory(memory: NonceMemory) -> None:
    """However far apart requests are, the memory of forgotten seconds is bounded, and none is accepted again."""
    for number in range(3_000):
        memory.take(WEB, "n", second(number * 200), at(number * 200))

    for number in (0, 1_000, 2_000, 2_998):
        with pytest.raises(SignedBeforeStart):
            memory.take(WEB, "n", second(number * 200), at(number * 200))


def test_what_an_earlier_process_may_have_carried_out_is_refused() -> None:
    """Everything up to the last request, and what was fresh at each of those in a time that is yet to come."""
    earlier = EarlierRequests(signed_since=at(30), carried_out_at=(at(1_000), at(1_010)))
    memory = NonceMemory(WINDOW, at(0), earlier=earlier)

    for refused in (-1_000_000, 29, 940, 1_000, 1_070):
        with pytest.raises(SignedBeforeStart):
            memory.require_fresh(WEB, second(refused), at(refused))
    for accepted in (30, 939, 1_072):
        memory.require_fresh(WEB, second(accepted), at(accepted))


def test_a_clock_that_agrees_with_nobodys_is_told(memory: NonceMemory) -> None:
    """Several requests in a row that are not fresh are a sign; one that is accepted ends it."""
    for _ in range(3):
        assert memory.clock_problem is None
        with pytest.raises(SkewedClock):
            memory.require_fresh(WEB, second(-3_600), at(0))
    assert "found this clock 3600 s ahead of the last sender's" in str(memory.clock_problem)

    memory.take(WEB, "n-1", second(1), at(1))
    assert memory.clock_problem is None


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
