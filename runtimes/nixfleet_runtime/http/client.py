"""An HTTP client that signs its requests, for hosts and operators. One connection pool each.

It never retries, and returns every response unchanged, whatever its status.
Source: docs/spec/trust.md, Request signatures.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Final

import httpx2

from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.headers import PROTOCOL
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import Clock

ANSWER_SECONDS_MAX: Final = 30.0
"""How long an answer may take. A long poll adds its own waiting time."""


class NoAnswer(Exception):
    """No response came; the request may or may not have arrived. kind: the class of the cause."""

    def __init__(self, request: str, error: httpx2.HTTPError) -> None:
        self.kind = type(error).__name__
        super().__init__(f"{request}: {self.kind}: {error}")


class SignedClient:
    """Sends requests signed with `key` as `key_id`. Created by `signed_client`."""

    def __init__(
        self, client: httpx2.AsyncClient, key_id: str, key: SigningKey, clock: Clock
    ) -> None:
        self._client = client
        self._key_id = key_id
        self._key = key
        self._clock = clock

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
    ) -> httpx2.Response:
        """Return the response. path: percent-encoded, with its query. Raises: NoAnswer."""
        now = self._clock.now()
        signed = sign_request(self._key, self._key_id, method, path, body, now, new_nonce())
        headers = {**signed, PROTOCOL: str(PROTOCOL_VERSION), "Content-Type": "application/json"}
        try:
            return await self._client.request(
                method, path, content=body, headers=headers, timeout=answer_seconds_max
            )
        except httpx2.HTTPError as error:
            raise NoAnswer(f"{method} {path}", error) from error


@asynccontextmanager
async def signed_client(
    base_url: str, key_id: str, key: SigningKey, clock: Clock, *, tls: SSLContext | bool = True
) -> AsyncIterator[SignedClient]:
    """Yield a client of the control plane at `base_url`; close its connections at the end.

    tls: the trusted certificate authorities; `True`: those of the machine.
    """
    # Proxies from the environment are ignored: requests go only to the control plane.
    async with httpx2.AsyncClient(base_url=base_url, verify=tls, trust_env=False) as client:
        yield SignedClient(client, key_id, key, clock)
