"""Async tests as plain ones: an embedder needs no plugin, no mark and no fixture to run them.

Each test has an event loop of its own, and a limit of real time, so that what never ends fails instead.
What failed is raised as it is, and not inside the exception group of a task group: the message is for the
implementer.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import ParamSpec

import anyio
import anyio.lowlevel

P = ParamSpec("P")

TEST_SECONDS_MAX = 30.0
ROUNDS = 30


def in_event_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Return `test` as a function that runs it to its end."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def limited() -> None:
            with anyio.move_on_after(TEST_SECONDS_MAX) as limit:
                await test(*args, **kwargs)
            assert not limit.cancelled_caught, f"not over after {TEST_SECONDS_MAX:g} s: it hangs"

        try:
            anyio.run(limited)
        except BaseExceptionGroup as group:
            raise _most_telling(group) from None

    return run


async def ends_within(seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
    """Run `work`, and return whether it ended within so many seconds of real time. Otherwise it is cancelled."""
    with anyio.move_on_after(seconds):
        await work()
        return True
    return False


async def let_others_run() -> None:
    """Return when every task of this loop has had its turn often enough to have come as far as it can by itself."""
    # anyio's `wait_all_tasks_blocked` asks only every tenth of a second.
    for _ in range(ROUNDS):
        await anyio.lowlevel.checkpoint()


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first failed assertion of `group`, or else its first error."""
    errors = list(_leaves(group))
    return next((error for error in errors if isinstance(error, AssertionError)), errors[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        match error:
            case BaseExceptionGroup():
                yield from _leaves(error)
            case _:
                yield error
