"""The agent's end: the calls of HTTP over NATS, and dispatches as they are published.

Source: docs/spec/nats.md; the calls themselves: docs/spec/wire.md.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import httpx2

from nixfleet_agent.network.http_transport import HttpTransport
from nixfleet_nats.calls import POSITION, Answer, Request, is_enrollment, kind_of
from nixfleet_nats.link import Link, LinkFailed
from nixfleet_nats.positions import NOWHERE, Position
from nixfleet_nats.target import Target
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.wire import PROTOCOL_VERSION, Dispatch
from nixfleet_runtime.http.client import ANSWER_BYTES_MAX, NoAnswer
from nixfleet_runtime.http.headers import PROTOCOL
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem, encode_problem
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX, TransportFailed


class NatsRequests:
    """Signs requests and sends them over NATS: a `SignedSender`."""

    def __init__(self, link: Link, key: SigningKey, clock: Clock) -> None:
        self._link = link
        self._key = key
        self._clock = clock
        self.position = NOWHERE
        """Where the control plane was when it was asked last for a dispatch."""

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        answer_bytes_max: int | None = None,
    ) -> httpx2.Response:
        """Return the complete answer. path: percent-encoded, with its query. Raises: NoAnswer."""
        request = f"{method} {path}"
        try:
            with anyio.fail_after(answer_seconds_max):
                answer = await self._answer(
                    method, path, body, answer_bytes_max or ANSWER_BYTES_MAX
                )
        except TimeoutError as error:
            problem = f"expected a complete answer within {answer_seconds_max:g} s"
            raise NoAnswer(request, "AnswerTooSlow", problem) from error
        except LinkFailed as error:
            raise NoAnswer(request, error.kind, str(error)) from error
        at = Position.read(answer.headers.get(POSITION, ""))
        if at is not None:
            self.position = at
        return httpx2.Response(
            answer.status,
            headers={**answer.headers},
            content=answer.body,
            request=httpx2.Request(method, f"http://nats{path}"),
        )

    async def _answer(self, method: str, target: str, body: bytes, bytes_max: int) -> Answer:
        link = self._link
        is_known = await link.is_known()
        key_id, now = host_key_id(link.hostname), self._clock.now()
        signed = sign_request(self._key, key_id, method, target, body, now, new_nonce())
        path, _, query = target.partition("?")
        headers = {**signed, PROTOCOL: str(PROTOCOL_VERSION)}
        asked = Request(method, path, query, headers, body)
        if is_enrollment(method, path):
            return await link.ask(link.names.enroll(link.nkey), asked, bytes_max)
        kind = kind_of(method, path)
        assert kind is not None, f"{method} {path} is no call of a host"
        if not is_known:
            return _not_known(link)
        return await link.ask(link.names.up(link.hostname, kind), asked, bytes_max)


def _not_known(link: Link) -> Answer:
    """Return what the control plane says over HTTP to a key that it does not know."""
    detail = f"the server let the key {link.nkey} in, but not as {link.hostname!r}"
    problem = HttpProblem(f"{TYPE_PREFIX}unknown-key", "The key is unknown", 401, detail)
    return Answer(HTTPStatus.UNAUTHORIZED, {}, encode_problem(problem))


class NatsTransport(HttpTransport):
    """One host's way to its control plane. A `Transport`; made by `connected`."""

    def __init__(self, requests: NatsRequests, key: SigningKey, link: Link) -> None:
        super().__init__(requests, key)
        self._requests = requests
        self._link = link

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return the dispatch that waits for this host. Raises: TransportFailed.

        The control plane is asked once; then the wait is for what it publishes, so that it holds nothing open.
        """
        ends_at = anyio.current_time() + wait_seconds
        dispatch = await super().next_dispatch(0)
        if dispatch is not None or wait_seconds <= 0:
            return dispatch
        with anyio.move_on_after(max(0.0, ends_at - anyio.current_time())):
            try:
                return (await self._link.desired_after(self._requests.position)).dispatch
            except LinkFailed as error:
                raise TransportFailed(str(error), kind=error.kind) from error
        return None

    async def enroll(self, request: EnrollRequest) -> None:
        """As `HttpTransport.enroll`; then connect anew, as the host."""
        await super().enroll(request)
        await self._link.hang_up()


@asynccontextmanager
async def connected(
    target: Target, hostname: str, key: SigningKey, clock: Clock
) -> AsyncIterator[NatsTransport]:
    """Yield a transport over `target`; end its connection at the end. It connects with the first call."""
    link = Link(target, hostname, key)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.watch)
        try:
            yield NatsTransport(NatsRequests(link, key, clock), key, link)
        finally:
            await link.hang_up()
            tasks.cancel_scope.cancel()
