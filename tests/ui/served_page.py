"""The local page in the test's process, in front of a control plane that is served on loopback, and who calls it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from attrs import frozen

from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import NoAnswer, signed_client
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_ui.admission import TOKEN_HEADER
from nixfleet_ui.app import Operator, Upstream
from nixfleet_ui.notifier import Notifier, no_notifier
from nixfleet_ui.serving import Served, listening_on, serving
from tests.support.served_control_plane import OPERATOR_KEY, Site

CLOCK = SystemClock()


@frozen
class PageCaller:
    """Sends requests to a page's process, as its own page does unless a header says otherwise."""

    served: Served

    @property
    def own_headers(self) -> Mapping[str, str]:
        """What the browser sends for the page, with the secret."""
        admission = self.served.admission
        return {
            "Host": admission.host,
            "Origin": admission.origin,
            "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Dest": "empty",
            "Content-Type": "application/json",
            TOKEN_HEADER: admission.token,
        }

    async def ask(
        self, method: str, path: str, body: bytes = b"", **changed: str | None
    ) -> httpx2.Response:
        """Return the answer. changed: headers, `_` for `-`; `None`: left out."""
        headers = dict(self.own_headers)
        for name, value in changed.items():
            known = next((it for it in headers if it.lower() == name.replace("_", "-")), name)
            headers.pop(known, None)
            if value is not None:
                headers[known.replace("_", "-")] = value
        async with httpx2.AsyncClient(trust_env=False) as client:
            url = f"{self.served.admission.origin}{path}"
            return await client.request(method, url, content=body, headers=headers)


@asynccontextmanager
async def page_for(
    site: Site,
    *,
    name: str = "alice",
    key: SigningKey = OPERATOR_KEY,
    read_only: bool = False,
    notifier: Notifier = no_notifier,
) -> AsyncIterator[PageCaller]:
    """Serve the page of an operator of `site`."""
    async with (
        signed_client(site.url, operator_key_id(name), key, CLOCK) as upstream,
        page_before(upstream, name, key, read_only=read_only, notifier=notifier) as caller,
    ):
        yield caller


@asynccontextmanager
async def page_before(
    upstream: Upstream,
    name: str = "alice",
    key: SigningKey = OPERATOR_KEY,
    *,
    read_only: bool = False,
    notifier: Notifier = no_notifier,
) -> AsyncIterator[PageCaller]:
    """Serve a page whose calls go to `upstream`."""
    operator = Operator(name, key, "https://fleet.example.org", read_only)
    async with serving(operator, upstream, CLOCK, "test", listening_on(0), notifier) as served:
        yield PageCaller(served)


class Unreachable:
    """A control plane that does not answer."""

    async def send(
        self, method: str, path: str, body: bytes = b"", *, answer_seconds_max: float
    ) -> httpx2.Response:
        """Raise: nobody is there."""
        raise NoAnswer(f"{method} {path}", "ConnectError", "connection refused")
