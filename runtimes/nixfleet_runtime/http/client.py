"""An HTTP client that signs its requests, for hosts and operators. One connection pool each.

With one control plane it never retries, and returns every response unchanged, whatever its status; with several it goes
on to the next where that cannot do anything twice. No response costs more than was agreed: it
is complete before one deadline, has at most so many bytes, and arrives as it was sent, without compression.
Source: docs/spec/trust.md, Request signatures; docs/spec/wire.md, Calls.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Final, Protocol

import anyio
import httpx2

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.config.base_url import base_urls
from nixfleet_runtime.http.headers import LEADER, PROTOCOL
from nixfleet_runtime.http.problem import TYPE_PREFIX, decode_problem
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.http.unreachable import why_no_response
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX

ANSWER_BYTES_MAX: Final = 1024 * 1024
"""How many bytes the body of an answer may have, unless the caller expects more."""
CONNECT_SECONDS_MAX: Final = 3.0
"""How long a connection to one of several control planes may take to be made."""
SUSPECT_SECONDS: Final = 2.0
"""After how long without an answer the others of several control planes are asked whether one of them leads by now."""
POLL_SUSPECT_SECONDS: Final = 10.0
"""The same for a request that is to wait, of which each host has one."""
_UNSENT: Final = frozenset({httpx2.ConnectError.__name__, httpx2.ConnectTimeout.__name__})
_STANDBY: Final = f"{TYPE_PREFIX}standby"
_READS: Final = frozenset({"GET", "HEAD"})


class NoAnswer(NixfleetError):
    """No usable response came; the request may or may not have arrived.

    kind: the class of the cause. problem: in words; it names the address if that could not be reached.
    """

    def __init__(self, request: str, kind: str, problem: str) -> None:
        self.kind = kind
        self.problem = problem
        super().__init__(f"{request}: {problem}")

    @property
    def is_unsent(self) -> bool:
        """Whether the request certainly did not arrive: no connection was made."""
        return self.kind in _UNSENT


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
        connect_seconds_max: float | None = None,
    ) -> None:
        self._client = client
        self._timeout = httpx2.Timeout(None, connect=connect_seconds_max)
        self._key_id = key_id
        self._key = key
        self._clock = clock
        self._answer_bytes_max = answer_bytes_max

    @property
    def url(self) -> str:
        """Where its requests go."""
        return str(self._client.base_url).rstrip("/")

    async def is_ready(self) -> bool:
        """Return whether it says, to anybody, that it serves. Not signed, and for no more than a hint."""
        try:
            answer = await self._client.get("/readyz", timeout=CONNECT_SECONDS_MAX)
        except httpx2.HTTPError:
            return False
        return answer.status_code == httpx2.codes.OK

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
            problem = why_no_response(error, self.url)
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
        streaming = self._client.stream(
            method, path, content=body, headers=headers, timeout=self._timeout
        )
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


class HttpSender(Protocol):
    """A `SignedSender` over HTTP: to one control plane, or to whichever of several answers."""

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
        """As `SignedClient.send`."""
        ...


class SeveralClients:
    """Sends requests to one of several control planes on one store: to the one that answered last.

    Goes on to the next when a connection cannot be made, and when a standby answers: nothing was done then. When an
    answer does not come, the request may have been carried out, so it is not repeated, but the next one goes to the
    next. When an answer takes long, the others are asked whether one of them leads by now: a process that stands still
    breaks no connection. Reads are repeated there at once. clients: in order of preference, at least one.
    """

    def __init__(self, clients: Sequence[SignedClient]) -> None:
        self._clients = clients
        self._current = 0
        # Which one each request is sent to, and whether it is a read.
        self._under_way: dict[anyio.CancelScope, tuple[int, bool]] = {}

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
        """As `SignedClient.send`, to each at most once, and each has the whole time. Raises: NoAnswer."""
        last: httpx2.Response | NoAnswer | None = None
        asked = set[int]()
        is_poll = answer_seconds_max > ANSWER_SECONDS_MAX
        suspect_seconds = POLL_SUSPECT_SECONDS if is_poll else SUSPECT_SECONDS
        while (at := self._next(asked)) is not None:
            outcome: httpx2.Response | NoAnswer | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._suspect, at, suspect_seconds)
                self._under_way[tasks.cancel_scope] = at, method in _READS
                try:
                    outcome = await self._clients[at].send(
                        method,
                        path,
                        body,
                        etag=etag,
                        answer_seconds_max=answer_seconds_max,
                        answer_bytes_max=answer_bytes_max,
                    )
                except NoAnswer as error:
                    outcome = error
                finally:
                    del self._under_way[tasks.cancel_scope]
                tasks.cancel_scope.cancel()
            if outcome is None:
                if method not in _READS:
                    problem = "another control plane answers by now, and this one did not"
                    raise NoAnswer(f"{method} {path}", "AnotherAnswers", problem)
                continue
            if isinstance(outcome, NoAnswer):
                self._go_on_from(at)
                if not outcome.is_unsent:
                    raise outcome
            elif _is_of_standby(outcome):
                self._go_on_from(at, outcome.headers.get(LEADER))
            else:
                return outcome
            asked.add(at)
            # A standby that answers says more than one that does not.
            last = outcome if isinstance(last, NoAnswer | None) else last
        assert last is not None, "each was asked"
        if isinstance(last, NoAnswer):
            raise last
        return last

    async def _suspect(self, at: int, seconds: float) -> None:
        """Go on from one that does not answer to one that does, if there is one, every so many seconds."""
        while True:
            await anyio.sleep(seconds)
            for other, client in enumerate(self._clients):
                if other != at and await client.is_ready():
                    self._go_on_from(at, client.url)
                    self._end_requests_to(at, only_reads=False)
                    break

    def _next(self, asked: Collection[int]) -> int | None:
        """Return the one to ask: the preferred one, or else the next that was not asked. `None`: all were."""
        count = len(self._clients)
        in_order = ((self._current + step) % count for step in range(count))
        return next((at for at in in_order if at not in asked), None)

    def _go_on_from(self, at: int, leader: str | None = None) -> None:
        """Prefer another one than `at` from now on: the leader it named, if that is one of ours, or else the next.

        Another process's word is no reason to send requests anywhere else.
        """
        if self._current != at or len(self._clients) == 1:
            return
        urls = [client.url for client in self._clients]
        is_ours = leader in urls and leader != urls[at]
        self._current = urls.index(leader) if is_ours and leader else (at + 1) % len(urls)
        self._end_requests_to(at, only_reads=True)

    def _end_requests_to(self, at: int, *, only_reads: bool) -> None:
        for scope, (where, is_read) in [*self._under_way.items()]:
            if where == at and (is_read or not only_reads):
                scope.cancel()


def _is_of_standby(answer: httpx2.Response) -> bool:
    return (
        answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE
        and decode_problem(answer.content, answer.status_code).type == _STANDBY
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
) -> AsyncIterator[HttpSender]:
    """Yield a client of the control plane at `base_url`; close its connections at the end.

    base_url: or those of several on one store, separated by commas. tls: the trusted certificate authorities; `True`:
    those of the machine. answer_bytes_max: for the body of each answer.
    """
    urls = base_urls(base_url)
    async with AsyncExitStack() as held:
        clients = [
            SignedClient(
                # Proxies from the environment are ignored: requests go only to the control plane.
                await held.enter_async_context(
                    httpx2.AsyncClient(base_url=url, verify=tls, trust_env=False)
                ),
                key_id,
                key,
                clock,
                answer_bytes_max=answer_bytes_max,
                connect_seconds_max=CONNECT_SECONDS_MAX if len(urls) > 1 else None,
            )
            for url in urls
        ]
        yield clients[0] if len(clients) == 1 else SeveralClients(clients)


def tls_context(ca_certificate_file: Path | None) -> SSLContext | bool:
    """Return what `signed_client` takes as `tls`: trust in the certificates of a PEM file alone, `None`: the machine's.

    Raises: UnfitFile, and other OSErrors, which ssl's errors are.
    """
    if ca_certificate_file is None:
        return True
    # Only for its checks: OpenSSL would wait for the writer of a named pipe.
    read_regular_file(ca_certificate_file)
    return create_default_context(cafile=str(ca_certificate_file))
