"""An HTTP client that signs its requests, for hosts and operators. One connection pool each.

It never retries, and returns every response unchanged, whatever its status. No response costs more than was agreed: it
is complete before one deadline, has at most so many bytes, and arrives as it was sent, without compression.
Source: docs/spec/trust.md, Request signatures; docs/spec/wire.md, Calls.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Final, Protocol

import anyio
import httpx2

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.headers import PROTOCOL
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.http.unreachable import why_no_response
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX

ANSWER_BYTES_MAX: Final = 1024 * 1024
"""How many bytes the body of an answer may have, unless the caller expects more."""


class NoAnswer(NixfleetError):
    """No usable response came; the request may or may not have arrived.

    kind: the class of the cause. problem: in words; it names the address if that could not be reached.
    """

    def __init__(self, request: str, kind: str, problem: str) -> None:
        self.kind = kind
        self.problem = problem
        super().__init__(f"{request}: {problem}")


class SignedSender(Protocol):
    """Sends signed requests, and returns every answer unchanged, whatever its status: over HTTP or NATS."""

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        answer_bytes_max: int | None = None,
    ) -> httpx2.Response:
        """Return the complete answer. path: percent-encoded, with its query.

        answer_seconds_max: for all of it. answer_bytes_max: for its body; `None` for the sender's own limit.
        Raises: NoAnswer.
        """
        ...


class SignedClient:
    """Sends requests signed with `key` as `key_id`. Created by `signed_client`."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        key_id: str,
        key: SigningKey,
        clock: Clock,
        *,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self._client = client
        self._key_id = key_id
        self._key = key
        self._clock = clock
        self._answer_bytes_max = answer_bytes_max

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        etag: str | None = None,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        answer_bytes_max: int | None = None,
    ) -> httpx2.Response:
        """Return the complete response. path: percent-encoded, with its query.

        etag: of an answer that is known; if it is still the same, the response is 304.
        answer_seconds_max: for all of it; time-outs of single reads would never end a response that comes byte by byte.
        answer_bytes_max: for its body; `None` for the client's own limit.
        Raises: NoAnswer.
        """
        request = f"{method} {path}"
        try:
            with anyio.fail_after(answer_seconds_max):
                return await self._answer(
                    method, path, body, etag, answer_bytes_max or self._answer_bytes_max
                )
        except TimeoutError as error:
            problem = f"expected a complete answer within {answer_seconds_max:g} s"
            raise NoAnswer(request, "AnswerTooSlow", problem) from error
        except httpx2.HTTPError as error:
            problem = why_no_response(error, str(self._client.base_url).rstrip("/"))
            raise NoAnswer(request, type(error).__name__, problem) from error

    async def _answer(
        self, method: str, path: str, body: bytes, etag: str | None, bytes_max: int
    ) -> httpx2.Response:
        now = self._clock.now()
        signed = sign_request(self._key, self._key_id, method, path, body, now, new_nonce())
        headers = {
            **signed,
            PROTOCOL: str(PROTOCOL_VERSION),
            "Content-Type": "application/json",
            # A compressed body of a few megabytes may have gigabytes.
            "Accept-Encoding": "identity",
            **({} if etag is None else {"If-None-Match": etag}),
        }
        streaming = self._client.stream(method, path, content=body, headers=headers, timeout=None)
        async with streaming as answer:
            # Cookies are no part of the protocol, and would be kept.
            self._client.cookies.clear()
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                problem = f"expected no Content-Encoding, found {encoding[:80]!r}"
                raise NoAnswer(f"{method} {path}", "AnswerEncoded", problem)
            content = bytearray()
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > bytes_max:
                    problem = f"expected an answer of at most {bytes_max} bytes, found more"
                    raise NoAnswer(f"{method} {path}", "AnswerTooLarge", problem)
            return httpx2.Response(
                answer.status_code,
                headers=answer.headers,
                content=bytes(content),
                request=answer.request,
            )


@asynccontextmanager
async def signed_client(
    base_url: str,
    key_id: str,
    key: SigningKey,
    clock: Clock,
    *,
    tls: SSLContext | bool = True,
    answer_bytes_max: int = ANSWER_BYTES_MAX,
) -> AsyncIterator[SignedClient]:
    """Yield a client of the control plane at `base_url`; close its connections at the end.

    tls: the trusted certificate authorities; `True`: those of the machine. answer_bytes_max: for the body of
    each answer.
    """
    # Proxies from the environment are ignored: requests go only to the control plane.
    async with httpx2.AsyncClient(base_url=base_url, verify=tls, trust_env=False) as client:
        yield SignedClient(client, key_id, key, clock, answer_bytes_max=answer_bytes_max)


def tls_context(ca_certificate_file: Path | None) -> SSLContext | bool:
    """Return what `signed_client` takes as `tls`: trust in the certificates of a PEM file alone, `None`: the machine's.

    Raises: UnfitFile, and other OSErrors, which ssl's errors are.
    """
    if ca_certificate_file is None:
        return True
    # Only for its checks: OpenSSL would wait for the writer of a named pipe.
    read_regular_file(ca_certificate_file)
    return create_default_context(cafile=str(ca_certificate_file))
