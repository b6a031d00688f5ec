"""Detects that a client has disconnected: waits for nothing else, and is cancelled once there is a response."""

from anyio import CancelScope
from starlette.requests import Request


async def until_gone(request: Request) -> None:
    """Return when the client has disconnected. The request's body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def end_when_gone(request: Request, scope: CancelScope) -> None:
    """Cancel `scope` when the client has disconnected."""
    await until_gone(request)
    scope.cancel()
