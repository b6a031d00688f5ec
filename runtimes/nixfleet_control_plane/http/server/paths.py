"""Paths as they stand in the request line: split first, decoded after, so that `%2F` in a name is part of the name.

Servers decode a path before an application sees it, and then `stable@feature%2Fx` is two segments; here every segment
is one name, and what was signed is what is looked up.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class UndecodedPaths:
    """Lets routes match the path as it was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        # In place: nobody above looks at it again, and a copy would live as long as a poll.
        scope["path"] = scope["raw_path"].decode("latin-1")
        await self._app(scope, receive, send)


class Name(Convertor[str]):
    """`{hostname:name}` in a route: one segment, percent-decoded. What is not UTF-8 then is nobody's name: 404."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the name that a segment stands for."""
        try:
            return unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise HTTPException(404) from error

    def to_string(self, value: str) -> str:
        """Not used: paths are made by `nixfleet_runtime.http.paths`."""
        raise NotImplementedError


register_url_convertor("name", Name())
