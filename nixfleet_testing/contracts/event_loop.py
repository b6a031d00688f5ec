"""Async tests as plain ones: an embedder needs no plugin, no mark and no fixture to run them.

Each test has an event loop of its own, and a limit of real time, so that what never ends fails instead.
What failed is raised as it is, and not inside the exception group of a task group: the message is for the
implementer.
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial, wraps
from typing import ClassVar, Concatenate, Final, ParamSpec, Protocol, TypeVar

import anyio
import anyio.lowlevel

ASYNCIO: Final = "asyncio"


class OfOneLoop(Protocol):
    """A contract whose tests run in one kind of event loop: "asyncio" or "trio"."""

    backend: ClassVar[str]


P = ParamSpec("P")
ContractT = TypeVar("ContractT", bound=OfOneLoop)

TEST_SECONDS_MAX = 30.0
ROUNDS = 30


def in_event_loop(
    test: Callable[Concatenate[ContractT, P], Awaitable[None]],
) -> Callable[Concatenate[ContractT, P], None]:
    """Return `test`, of a contract, as a function that runs it to its end in the contract's event loop."""

    @wraps(test)
    def run(self: ContractT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        _run(self.backend, partial(test, self, *args, **kwargs))

    return run


def in_loop_of(
    contract: OfOneLoop,
) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], None]]:
    """Return a decorator: as `in_event_loop`, for what a test of `contract` runs in an event loop."""

    def decorate(work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        return partial(_run, contract.backend, work)

    return decorate


def _run(backend: str, work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with anyio.move_on_after(TEST_SECONDS_MAX) as limit:
            await work()
        assert not limit.cancelled_caught, f"not over after {TEST_SECONDS_MAX:g} s: it hangs"

    try:
        anyio.run(limited, backend=backend)
    except BaseExceptionGroup as group:
        raise _most_telling(group) from None


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
