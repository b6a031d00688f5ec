"""Answers hosts' requests: hands them to the application that serves HTTP, and sends its answers back.

That application authenticates, limits and counts; here is only checked that a request came on a subject of the host
that it says signed it. An answer is sent once the application has one, so an accepted event is durable.
Source: docs/spec/nats.md, Calls.
"""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import anyio
import anyio.abc
from nats.aio.subscription import Subscription
from starlette.types import ASGIApp

from nixfleet_nats.calls import (
    ANSWERED,
    POSITION,
    Answer,
    MessageMalformed,
    Request,
    is_enrollment,
    kind_of,
    read_request,
)
from nixfleet_nats.connection import Connection, Message
from nixfleet_nats.errors import NatsUnusable
from nixfleet_nats.names import Kind, Names
from nixfleet_nats.positions import Position
from nixfleet_runtime.http.headers import CONTENT_DIGEST, SIGNATURE_INPUT
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem, encode_problem
from nixfleet_runtime.http.signing.key_id import HostSubject, subject_of
from nixfleet_runtime.http.signing.our_form import form_of

QUEUE: Final = "control-plane"
"""Of several that answer, one gets each request."""
ANSWERED_AT_ONCE_MAX: Final = 512
"""How many requests are handled at the same time; the others wait at their connection."""
FINISH_SECONDS_MAX: Final = 5.0
_log = logging.getLogger(__name__)


class Responder:
    """Answers on one connection. position: returns where the log is now. on_heartbeat: called with each host heard."""

    def __init__(
        self,
        connection: Connection,
        app: ASGIApp,
        tasks: anyio.abc.TaskGroup,
        position: Callable[[], Position],
        on_heartbeat: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._names: Names = connection.target.names
        self._app = app
        self._tasks = tasks
        self._position = position
        self._on_heartbeat = on_heartbeat
        self._room = anyio.Semaphore(ANSWERED_AT_ONCE_MAX)
        self._subscriptions: list[Subscription] = []

    async def listen(self) -> None:
        """Begin to answer. Raises: NatsUnusable."""
        for subject in (self._names.all_up, self._names.all_enroll):
            made = await self._connection.subscribe(subject, self._take, QUEUE)
            self._subscriptions.append(made)

    async def finish(self) -> None:
        """Take no more requests, and send the answers of those that were taken, if that is soon."""
        with anyio.move_on_after(FINISH_SECONDS_MAX, shield=True):
            for each in self._subscriptions:
                await self._connection.unsubscribe(each)
            for _ in range(ANSWERED_AT_ONCE_MAX):
                await self._room.acquire()

    async def _take(self, message: Message) -> None:
        await self._room.acquire()
        self._tasks.start_soon(self._handle, message)

    async def _handle(self, message: Message) -> None:
        try:
            answer = await self._answer(message)
            for headers, body in answer.messages(self._connection.part_bytes_max):
                await self._connection.publish(message.reply, body, headers)
        except NatsUnusable as error:
            _log.warning("an answer on %s was not sent: %s", message.subject, error)
        finally:
            self._room.release()

    async def _answer(self, message: Message) -> Answer:
        try:
            request = read_request(message.headers, message.data)
        except MessageMalformed as error:
            return _problem(400, "malformed", "The request cannot be read", str(error))
        caller = self._names.caller(message.subject)
        if caller is None:
            # On the subject of a key: it enrolls, or asks nothing.
            if not is_enrollment(request.method, request.path):
                return _not_here(request)
            return await self._asked(request)
        hostname, kind = caller
        if kind_of(request.method, request.path) is not kind:
            return _not_here(request)
        signer = _signer(request)
        if signer is not None and signer != hostname:
            detail = f"expected a request that {hostname!r} signed, found one of {signer!r}"
            return _problem(403, "another-host", "A host may ask only for itself", detail)
        # Before it is asked: what is queued meanwhile comes after it.
        position = self._position()
        answer = await self._asked(request)
        if kind is Kind.HEARTBEAT and answer.status == 200:
            self._on_heartbeat(hostname)
        if kind is not Kind.DISPATCH:
            return answer
        return Answer(answer.status, {**answer.headers, POSITION: str(position)}, answer.body)

    async def _asked(self, request: Request) -> Answer:
        return await ask(self._app, request)


async def ask(app: ASGIApp, request: Request) -> Answer:
    """Return the application's answer to a request."""
    headers = [
        (name.lower().encode(), value.encode("latin-1", "replace"))
        for name, value in request.headers.items()
    ]
    if request.body:
        headers.append((b"content-type", b"application/json"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "nats",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    bodies = [request.body]

    async def receive() -> MutableMapping[str, Any]:
        if not bodies:
            await anyio.sleep_forever()  # A caller that is gone cannot be told from one that waits.
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    status = 500
    given: dict[str, str] = {}
    body = bytearray()

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            given.update(
                {name.decode().lower(): value.decode() for name, value in message["headers"]}
            )
        else:
            body.extend(message.get("body", b""))

    try:
        await app(scope, receive, send)
    except Exception:
        # Starlette raises again what it has answered, so that the server logs it.
        _log.exception("%s %s failed", request.method, request.path)
    answered = {name: given[name.lower()] for name in ANSWERED if name.lower() in given}
    return Answer(status, answered, bytes(body))


def _signer(request: Request) -> str | None:
    """Return the host that signed, as the request says; `None`: in a form that the application has to read."""
    query = f"?{request.query}" if request.query else ""
    digest, given = (
        request.headers.get(CONTENT_DIGEST, ""),
        request.headers.get(SIGNATURE_INPUT, ""),
    )
    form = form_of(request.method, f"{request.path}{query}", digest, given)
    subject = None if form is None else subject_of(form.claims.key_id)
    return subject.hostname if isinstance(subject, HostSubject) else None


def _not_here(request: Request) -> Answer:
    detail = f"{request.method} {request.path[:200]} is no call on this subject"
    return _problem(404, "not-here", "There is no such call", detail)


def _problem(status: int, name: str, title: str, detail: str) -> Answer:
    problem = HttpProblem(f"{TYPE_PREFIX}{name}", title, status, detail)
    return Answer(status, {}, encode_problem(problem))
