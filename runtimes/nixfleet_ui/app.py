"""The ASGI application of the local page: its files, what it asks of this process, and what is forwarded.

Every answer carries the headers that keep the page to itself, refusals too.
Source: docs/spec/local-page.md.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import anyio
import httpx2
import orjson
from attrs import frozen
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nixfleet_proto.codec import DecodeError, Uncanonical
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.signing import SigningKey, fingerprint_of
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.client import NoAnswer
from nixfleet_runtime.http.headers import RETRY_AFTER
from nixfleet_runtime.http.problem import (
    PROBLEM_CONTENT_TYPE,
    TYPE_PREFIX,
    HttpProblem,
    encode_problem,
)
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX
from nixfleet_ui.admission import Admission, Refused
from nixfleet_ui.assets import Asset
from nixfleet_ui.calls import CallKind, kind_of
from nixfleet_ui.notifier import STANDING, Notifier, no_notifier
from nixfleet_ui.statements import (
    APPROVAL_WANTED,
    SEND_BODY,
    SHOWN,
    WARRANT_WANTED,
    NotAsShown,
    shown_approval,
    shown_warrant,
    signed,
)

BODY_BYTES_MAX: Final = 1024 * 1024
CALLS_MAX: Final = 32
"""How many calls are forwarded at the same time; others wait."""
ORDER_ID_BYTES: Final = 16
FORESEEING_SECONDS_MAX: Final = 150.0
"""How long a forecast, a preview or a study may take: longer than the control plane gives the process that makes it."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html",
    )
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer."""


class Upstream(Protocol):
    """What sends signed requests to the control plane; `SignedClient` does."""

    async def send(
        self, method: str, path: str, body: bytes = b"", *, answer_seconds_max: float
    ) -> httpx2.Response:
        """Return the answer. answer_seconds_max: for all of it. Raises: NoAnswer."""
        ...


@frozen
class Operator:
    """Whose key signs. url: of the control plane. read_only: no command is sent, nothing is signed but requests."""

    name: str
    key: SigningKey
    url: str
    read_only: bool = False


@frozen
class Page:
    """Answers the browser. version: of this program, shown on the page. notifier: reads the one on this machine."""

    admission: Admission
    operator: Operator
    upstream: Upstream
    assets: Mapping[str, Asset]
    clock: Clock
    version: str
    notifier: Notifier
    _room: anyio.CapacityLimiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http", scope["type"]
        request = Request(scope, receive, send)
        with suppress(ClientDisconnect):  # The browser has gone before its request was whole.
            answer = await self._answer(request, scope["raw_path"].decode("latin-1"))
            if answer is not None:
                answer.headers.update(HEADERS)
                await answer(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response | None:
        """Return the answer, `None` if the browser has gone."""
        if not path.startswith(("/v1/", "/local/")):
            return self._file(request, path)
        refused = self.admission.refusal_of_call(request.method, request.headers.raw)
        if refused is not None:
            return _refusal(refused)
        body = await _body_of(request)
        if body is None:
            return _refusal(Refused(413, "too-large", f"expected at most {BODY_BYTES_MAX} bytes"))
        if path.startswith("/v1/"):
            return await self._call(request, path, body)
        return await self._local(request, path, body)

    def _file(self, request: Request, path: str) -> Response:
        refused = self.admission.refusal_of_page(request.method, path, request.headers.raw)
        if refused is not None:
            return _refusal(refused)
        asset = self.assets.get(path)
        if asset is None:
            return _refusal(Refused(404, "no-file", "the page has no such file"))
        return Response(asset.content, media_type=asset.media_type)

    async def _call(self, request: Request, path: str, body: bytes) -> Response | None:
        """Forward a call of the control plane's API, if it is one of those that the page may make."""
        kind = kind_of(request.method, path)
        if kind is None:
            return _refusal(Refused(404, "no-call", "the page may not make this call"))
        if kind is CallKind.COMMAND and self.operator.read_only:
            return _refusal(_READ_ONLY)
        query = request.scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        return await self._forwarded(request, request.method, target, body)

    async def _local(self, request: Request, path: str, body: bytes) -> Response | None:
        """Answer what is asked of this process itself."""
        match f"{request.method} {path}":
            case "GET /local/session":
                return Response(orjson.dumps(self._session()), media_type="application/json")
            case "GET /local/notifier":
                standing = await anyio.to_thread.run_sync(self.notifier, limiter=self._room)
                return Response(STANDING.encode(standing), media_type="application/json")
            case "POST /local/approval" | "POST /local/warrant" | "POST /local/sign":
                if self.operator.read_only:
                    return _refusal(_READ_ONLY)
                try:
                    if path == "/local/sign":
                        sent = SEND_BODY.decode(body)
                        now = self.clock.now()
                        ready = signed(sent, self.operator.name, self.operator.key, now)
                        return await self._forwarded(request, "POST", ready.path, ready.body)
                    return self._shown(path, body)
                except (DecodeError, InvalidValue, NotAsShown, Uncanonical) as error:
                    return _refusal(Refused(422, "statement", str(error)))
            case _:
                return _refusal(Refused(404, "no-call", "this process has no such call"))

    def _session(self) -> Mapping[str, object]:
        return {
            "operator": self.operator.name,
            "keyFingerprint": fingerprint_of(self.operator.key.public_key),
            "url": self.operator.url,
            "isReadOnly": self.operator.read_only,
            "version": self.version,
        }

    def _shown(self, path: str, body: bytes) -> Response:
        """Return a statement as it will be signed."""
        now, name = self.clock.now(), self.operator.name
        if path == "/local/approval":
            shown = shown_approval(APPROVAL_WANTED.decode(body), name, now)
        else:
            order_id = secrets.token_hex(ORDER_ID_BYTES)
            shown = shown_warrant(WARRANT_WANTED.decode(body), name, order_id, now)
        return Response(SHOWN.encode(shown), media_type="application/json")

    async def _forwarded(
        self, request: Request, method: str, target: str, body: bytes
    ) -> Response | None:
        """Return the control plane's answer. A browser that goes away takes its call with it."""
        answers: list[Response] = []

        async def ask() -> None:
            async with self._room:
                answers.append(await self._asked(method, target, body))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            # A command is carried out even if the tab is closed: whether it was would not be known otherwise.
            if method == "GET":
                tasks.start_soon(_ended_by_leaving, request, tasks.cancel_scope.cancel)
            await ask()
        return answers[0] if answers else None

    async def _asked(self, method: str, target: str, body: bytes) -> Response:
        try:
            path = target.partition("?")[0]
            is_slow = path.startswith(_FORESEEING) or path.endswith(_OF_A_RELEASE)
            seconds = FORESEEING_SECONDS_MAX if is_slow else ANSWER_SECONDS_MAX
            found = await self.upstream.send(method, target, body, answer_seconds_max=seconds)
        except NoAnswer as error:
            url = self.operator.url
            where = "" if url in error.problem else f"no answer from {url}: "
            return _refusal(Refused(502, "no-answer", f"{where}{error.problem}"))
        kept = {name: found.headers[name] for name in _KEPT if name in found.headers}
        return Response(found.content, found.status_code, kept)


_FORESEEING: Final = (paths.FORECAST, paths.PREVIEW, paths.PAST, paths.LOG_CHAIN)
_OF_A_RELEASE: Final = ("/changes", "/backtest")
_KEPT: Final = ("Content-Type", RETRY_AFTER, "ETag")
_READ_ONLY: Final = Refused(403, "read-only", "the page was started with --read-only")
_TITLES: Final[Mapping[str, str]] = {
    "no-answer": "The control plane does not answer",
    "read-only": "This page only shows",
    "statement": "The statement cannot be signed",
    "token": "This is not the page's tab",
}


def make_page(
    admission: Admission,
    operator: Operator,
    upstream: Upstream,
    assets: Mapping[str, Asset],
    clock: Clock,
    version: str,
    notifier: Notifier = no_notifier,
) -> Page:
    """Return the application."""
    room = anyio.CapacityLimiter(CALLS_MAX)
    return Page(admission, operator, upstream, assets, clock, version, notifier, room)


def _refusal(refused: Refused) -> Response:
    title = _TITLES.get(refused.name, "The request is refused")
    problem = HttpProblem(f"{TYPE_PREFIX}ui-{refused.name}", title, refused.status, refused.detail)
    return Response(encode_problem(problem), refused.status, media_type=PROBLEM_CONTENT_TYPE)


async def _body_of(request: Request) -> bytes | None:
    """Return the body, `None` if it is longer than it may be."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


async def _ended_by_leaving(request: Request, end: Callable[[], Awaitable[None] | None]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    end()
