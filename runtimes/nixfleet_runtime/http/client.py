"""A signed way to a control plane: what hosts and operators have in common on their side. One connection pool each.

Nothing is retried, and no answer is judged here: what comes back is what came.
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
"""How long an answer may take, beyond the time that a long-poll waits anyway."""


class NoAnswer(Exception):
    """None came, which says nothing about whether the request arrived. kind: what tells one reason from another."""

    def __init__(self, asked: str, error: httpx2.HTTPError) -> None:
        self.kind = type(error).__name__
        super().__init__(f"{asked}: {self.kind}: {error}")


class SignedClient:
    """Sends requests that `key` signs as `key_id`. Made by `signed_client`."""

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
        """Return the answer. path: with its query, percent-encoded. Raises: NoAnswer."""
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
    """Yield a client of the control plane at `base_url`; its connections are closed at the end.

    tls: what the server's certificate is checked against; `True`: the machine's own authorities.
    """
    # No proxies from the environment: what is said is for the control plane alone.
    async with httpx2.AsyncClient(base_url=base_url, verify=tls, trust_env=False) as client:
        yield SignedClient(client, key_id, key, clock)
