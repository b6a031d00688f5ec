"""Which requests the local page's process takes. Pure: headers in, a refusal or none out.

The process holds an operator's key, and every page that the operator's browser shows can send requests to loopback.
So a request is taken only if the browser says that our own page sent it, and if it carries the secret of this process.
Each check holds alone: a rebound name fails on `Host`, a foreign page on `Sec-Fetch-Site` and `Origin`, a form on
`Sec-Fetch-Mode` and the secret, a frame on `Sec-Fetch-Dest`, another user's program on the secret.
Source: docs/spec/local-page.md, What is refused.
"""

import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

TOKEN_HEADER: Final = "x-nixfleet-ui-token"  # the name of a header
ADDRESS: Final = "127.0.0.1"

_SINGLE: Final = ("host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
_PAGE_METHODS: Final = frozenset({"GET", "HEAD"})
_API_METHODS: Final = frozenset({"GET", "POST"})
_API_MODES: Final = frozenset({"cors", "same-origin"})
_JSON: Final = "application/json"


@frozen
class Refused:
    """Why a request is not taken. name: of the problem. detail: what was expected, and what was found."""

    status: int
    name: str
    detail: str


@frozen
class Admission:
    """Takes the requests of one process. port: where it listens. token: its secret, 256 bits in text."""

    port: int
    token: str

    @property
    def host(self) -> str:
        """The only `Host` that is taken: a name would resolve to whatever its owner wants."""
        return f"{ADDRESS}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin of the page."""
        return f"http://{self.host}"

    def refusal_of_page(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> Refused | None:
        """Return why a request for a file of the page is refused, `None` if it is taken.

        The files are public, and a browser cannot send the secret with them. The document may be opened from anywhere,
        as a document of its own; what belongs to it is given to it alone.
        """
        found = self._read(headers)
        if isinstance(found, Refused):
            return found
        if method not in _PAGE_METHODS:
            return Refused(405, "method", f"expected GET, found {method[:20]!r}")
        dest, site = found.get("sec-fetch-dest"), found.get("sec-fetch-site")
        if path == "/":
            if dest not in (None, "document"):
                return Refused(403, "framed", f"expected a document, found {dest!r}")
        elif site not in (None, "same-origin"):
            return Refused(403, "cross-site", f"expected a request of the page, found {site!r}")
        return None

    def refusal_of_call(
        self, method: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> Refused | None:
        """Return why a call is refused, `None` if it is taken."""
        found = self._read(headers)
        if isinstance(found, Refused):
            return found
        if method not in _API_METHODS:
            return Refused(405, "method", f"expected GET or POST, found {method[:20]!r}")
        site, mode = found.get("sec-fetch-site"), found.get("sec-fetch-mode")
        if site != "same-origin" or mode not in _API_MODES:
            said = f"Sec-Fetch-Site {site!r}, Sec-Fetch-Mode {mode!r}"
            return Refused(403, "cross-site", f"expected a request of the page, found {said}")
        origin = found.get("origin")
        if origin != self.origin and not (origin is None and method == "GET"):
            return Refused(403, "cross-origin", f"expected Origin {self.origin}, found {origin!r}")
        if method == "POST" and found.get("content-type") != _JSON:
            return Refused(415, "content-type", f"expected Content-Type: {_JSON}")
        given = found.get(TOKEN_HEADER)
        if given is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            detail = "expected the secret that this process wrote into its redirect file: open that"
            return Refused(401, "token", detail)
        return None

    def _read(self, headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str] | Refused:
        """Return the headers, names in lower case; a refusal if one is there twice or `Host` is another."""
        found: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if name in found and (name in _SINGLE or name in (TOKEN_HEADER, "content-type")):
                return Refused(400, "header-twice", f"expected one {name}")
            found[name] = raw_value.decode("latin-1")
        if found.get("host") != self.host:
            return Refused(421, "host", f"expected Host {self.host}, found {found.get('host')!r}")
        return found
