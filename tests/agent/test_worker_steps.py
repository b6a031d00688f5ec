"""What workers wait with: wakeups and the lock."""

from nixfleet_agent.workers.steps import Lock, Wait, Wakeup


def test_a_wakeup_ends_every_wait_once() -> None:
    """And none that begins after it was cleared."""
    ended: list[str] = []
    wakeup = Wakeup()
    wakeup.on_set(lambda: ended.append("first"))
    wakeup.on_set(lambda: ended.append("second"))
    wakeup.set()
    wakeup.clear()
    wakeup.set()

    assert ended == ["first", "second"]


def test_a_wait_that_is_forgotten_is_not_ended() -> None:
    """Its time was over before."""
    ended: list[str] = []
    wakeup = Wakeup()
    end = lambda: ended.append("late")  # noqa: E731
    wakeup.on_set(end)
    wakeup.forget(end)
    wakeup.forget(end)
    wakeup.set()

    assert ended == []


def turn_of(wait: Wait) -> bool:
    return wait.wakeup is not None and wait.wakeup.is_set


def test_a_lock_is_passed_on_in_the_order_of_asking() -> None:
    """Never to two at a time."""
    lock = Lock()
    assert lock.acquire_now()
    first, second = lock.acquire(), lock.acquire()
    turns = [next(first), next(second)]
    assert [turn_of(turn) for turn in turns] == [False, False]
    lock.release()
    assert [turn_of(turn) for turn in turns] == [True, False]
    assert not lock.acquire_now()
    lock.release()
    assert [turn_of(turn) for turn in turns] == [True, True]
    lock.release()
    assert lock.acquire_now()


def test_a_worker_that_is_cancelled_while_it_waits_does_not_get_the_lock() -> None:
    """It goes to the next one."""
    lock = Lock()
    assert lock.acquire_now()
    first, second = lock.acquire(), lock.acquire()
    next(first)
    turn = next(second)
    first.close()
    lock.release()

    assert turn_of(turn)


def test_a_worker_that_is_cancelled_when_its_turn_has_come_passes_the_lock_on() -> None:
    """Between the release and its next step."""
    lock = Lock()
    assert lock.acquire_now()
    first = lock.acquire()
    next(first)
    lock.release()
    first.close()

    assert lock.acquire_now()
