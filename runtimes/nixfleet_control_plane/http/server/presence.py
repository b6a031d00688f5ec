"""How a client's leaving is noticed: by waiting for that alone, until one is cancelled because there is an answer."""

from starlette.requests import Request


async def until_gone(request: Request) -> None:
    """Return when the client has left. The request's body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
