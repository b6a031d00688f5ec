"""Sends messages to a webhook: one bounded request each. What an answer means is decided by `delivery.answers`.

Redirects are not followed, proxies of the environment are not used, and the body of an answer is not read.
Source: docs/spec/notifications.md, Webhooks.
"""

from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

import anyio
import httpx2
from attrs import frozen

from nixfleet_notify.delivery.answers import Answer, failed, http_answer
from nixfleet_notify.messages.message import CONTENT_TYPE, Message
from nixfleet_notify.messages.signing import MalformedSecret, secret_of, signed_headers
from nixfleet_notify.ways.egress import EgressRefused, EgressRules, Resolve, resolved
from nixfleet_notify.ways.secret import Secret
from nixfleet_runtime.http.client import tls_context
from nixfleet_runtime.http.unreachable import why_no_response
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.visible import visible

_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


@frozen
class Webhook:
    """One webhook. secrets: that sign, the current one first. token: sent as a bearer token."""

    url: str
    egress: EgressRules
    clock: Clock
    timeout_seconds: float
    secrets: tuple[Secret, ...] = ()
    token: Secret | None = None
    tls: Callable[[], SSLContext | bool] = lambda: tls_context(None)
    resolve: Resolve = resolved

    async def send(self, message: Message, attempt: int) -> Answer:
        """Return what came of one attempt. Raises nothing: whatever fails is an answer."""
        try:
            with anyio.fail_after(self.timeout_seconds):
                return await self._answer(message)
        except TimeoutError:
            return failed(f"expected an answer within {self.timeout_seconds:g} s")
        except httpx2.HTTPError as error:
            return failed(visible(why_no_response(error, _place(self.url), "the receiver")))
        except (EgressRefused, MalformedSecret) as error:
            return failed(visible(str(error)))
        except (OSError, UnicodeError, httpx2.InvalidURL) as error:
            return failed(visible(f"{_place(self.url)}: {error}"))

    async def _answer(self, message: Message) -> Answer:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        address = await self._address(host, parts.port or _PORTS[parts.scheme])
        body = message.body.encode()
        secrets = [secret_of(secret.text()) for secret in self.secrets]
        headers = {
            "Host": parts.netloc.rpartition("@")[2],
            "Content-Type": CONTENT_TYPE,
            "Accept-Encoding": "identity",
            "User-Agent": "nixfleet-notify",
            **signed_headers(message.id, body, self.clock.now(), secrets),
        }
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.text().strip()}"
        url = httpx2.URL(self.url).copy_with(host=address)
        # The certificate must be that of the name, though the connection goes to an address.
        extensions = {"sni_hostname": host}
        async with (
            httpx2.AsyncClient(verify=self.tls(), trust_env=False, timeout=None) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions=extensions
            ) as answer,
        ):
            # The status says all. What else the receiver writes is never read.
            return http_answer(
                answer.status_code,
                answer.headers.get("Location"),
                answer.headers.get("Retry-After"),
                self.clock.now(),
            )

    async def _address(self, host: str, port: int) -> str:
        addresses = await self.resolve(host, port)
        for address in addresses:
            self.egress.require(host, address)
        if not addresses:
            raise OSError("its name has no address")
        return addresses[0]


def _place(url: str) -> str:
    """Return scheme, host and port of a URL: its path, its query and its user may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
