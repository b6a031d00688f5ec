"""Routes on the undecoded path: split first, decode second, so that `%2F` in a name is part of the name.

Servers decode a path before the application sees it, which makes `stable@feature%2Fx` two segments. Here each segment
is one name, and the name looked up is the one that was signed.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class UndecodedPaths:
    """Makes routes match the path as it was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        # In place: no outer middleware reads it again, and a copy would exist for as long as a poll waits.
        scope["path"] = scope["raw_path"].decode("latin-1")
        await self._app(scope, receive, send)


class Name(Convertor[str]):
    """`{hostname:name}` in a route: one segment, percent-decoded. A segment that is not UTF-8 gives 404."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the decoded name."""
        try:
            return unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise HTTPException(404) from error

    def to_string(self, value: str) -> str:
        """Unused: `nixfleet_runtime.http.paths` builds paths."""
        raise NotImplementedError


register_url_convertor("name", Name())
