"""Work for somebody who waits for it, and only as long as they do."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.requests import Request

T = TypeVar("T")


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T | None:
    """Return what `work` returns; `None` when the client went away first: `work` is cancelled then.

    The request's body has been read. For work that changes nothing: what is to be written is finished, whoever waits.
    Raises: what `work` raises.
    """
    result: T | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_when_gone, request, tasks.cancel_scope)
        try:
            result = await work()
        except Exception as error:  # raised below: the task group would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _cancel_when_gone(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
