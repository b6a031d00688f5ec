"""Who waits for something: woken by name, even before they wait, and forgotten when they leave."""

import anyio
import pytest

from nixfleet_control_plane.wakers import Wakers

pytestmark = pytest.mark.anyio


async def test_all_who_wait_for_a_host_are_woken_and_nobody_else() -> None:
    """A wake-up is for one host, however many ask for it."""
    wakers = Wakers()
    first, second = wakers.add("web-01"), wakers.add("web-01")
    other = wakers.add("web-02")

    wakers.wake("web-01")

    assert first.cancel_called
    assert second.cancel_called
    assert not other.cancel_called


async def test_a_wake_up_that_comes_before_the_wait_ends_it_at_once() -> None:
    """Nothing is missed between asking and waiting."""
    wakers = Wakers()
    woken = wakers.add("web-01")
    wakers.wake("web-01")

    with anyio.fail_after(5), woken:
        await anyio.sleep_forever()

    assert woken.cancelled_caught


async def test_who_has_left_is_not_woken() -> None:
    """A scope that is forgotten stays as it is, and those beside it do not."""
    wakers = Wakers()
    gone, left = wakers.add("web-01"), wakers.add("web-01")
    wakers.discard("web-01", gone)
    wakers.discard("web-01", gone)

    wakers.wake("web-01")

    assert not gone.cancel_called
    assert left.cancel_called


async def test_all_are_woken_at_the_end() -> None:
    """When the control plane closes nobody goes on waiting."""
    wakers = Wakers()
    scopes = [wakers.add(f"web-{number}") for number in range(3)]

    wakers.wake_all()

    assert all(scope.cancel_called for scope in scopes)
