"""A control plane that does nothing but let hosts in: real HTTP, real signatures, the real rules of enrollment."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nixfleet_control_plane.messages.key_ring import (
    EnrolledHost,
    KeyRing,
    claimed_key,
    enrollment_objection,
)
from nixfleet_proto.codec import decode_enroll_request
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    SignedToken,
)
from nixfleet_proto.fleet import Meta
from nixfleet_proto.signing import SigningKey, fingerprint_of, sign_token
from nixfleet_proto.trust import KeySlot, TrustedKey, TrustRoot
from nixfleet_runtime.http.paths import AGENT_DISPATCH, ENROLL
from nixfleet_runtime.http.problem import (
    PROBLEM_CONTENT_TYPE,
    TYPE_PREFIX,
    HttpProblem,
    encode_problem,
)
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import RequestRefused
from nixfleet_runtime.http.signing.requests import verify_request
from nixfleet_runtime.kernel.clock import SystemClock

ORG_ROOT_KEY = SigningKey.generate()
CI_KEY = SigningKey.generate()
TRUST = TrustRoot(KeySlot(CI_KEY.public_key), KeySlot(ORG_ROOT_KEY.public_key))


def token_for(key: SigningKey, hostname: str = "web-01", nonce: str = "n-1") -> SignedToken:
    """A good token, now."""
    now = SystemClock().now()
    token = BootstrapToken(
        hostname,
        fingerprint_of(key.public_key),
        now - timedelta(minutes=1),
        now + timedelta(hours=1),
        nonce,
    )
    return sign_token(token, ORG_ROOT_KEY)


class EnrollingServer:
    """What the server knows. nonces: those on the list, all for web-01. answer_with: a problem for every enrollment."""

    def __init__(self) -> None:
        self.ring = KeyRing()
        self.nonces = ["n-1"]
        self.used: set[str] = set()
        self.answer_with: HttpProblem | None = None
        self.loses_answers = False
        self.enrollments = 0
        self.url = ""
        long_ago = SystemClock().now() - timedelta(hours=1)
        self._memory = NonceMemory(60, long_ago)

    def lose_database(self) -> None:
        """Forget every host, and which nonces were used; the list of nonces is published again."""
        self.ring = KeyRing()
        self.used.clear()

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(ENROLL, self._enroll, methods=["POST"]),
                Route(AGENT_DISPATCH, self._dispatch),
            ]
        )

    async def _dispatch(self, request: Request) -> Response:
        try:
            self._verified(request, b"", self.ring.key_of)
        except RequestRefused as refused:
            return _problem(refused.as_problem())
        return Response(status_code=204)

    async def _enroll(self, request: Request) -> Response:
        self.enrollments += 1
        if self.answer_with is not None:
            return _problem(self.answer_with)
        body = await request.body()
        wish = decode_enroll_request(body)
        self._verified(request, body, claimed_key(wish))
        now = SystemClock().now()
        key = claimed_key(wish)(f"host:{wish.token.token.hostname}")
        assert key is not None
        objection = enrollment_objection(
            wish,
            key,
            ring=self.ring,
            nonces=self._listed(now),
            used_nonces=self.used,
            trust=TRUST,
            now=now,
        )
        if objection is not None:
            return _problem(
                HttpProblem(
                    f"{TYPE_PREFIX}enrollment", "The host may not enroll", 403, str(objection)
                )
            )
        self.used.add(wish.token.token.nonce)
        self.ring = self.ring.with_host(EnrolledHost(wish.token.token.hostname, key, now))
        if self.loses_answers:
            raise ConnectionResetError("the answer is lost")
        return Response(status_code=204)

    def _verified(
        self, request: Request, body: bytes, keys: Callable[[str], TrustedKey | None]
    ) -> None:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        now = SystemClock().now()
        verify_request(
            request.method,
            path,
            request.headers,
            body,
            keys,
            self._memory,
            now,
        )

    def _listed(self, now: datetime) -> BootstrapNonces:
        expires_at = now + timedelta(hours=1)
        listed = tuple(BootstrapNonce(nonce, "web-01", expires_at) for nonce in self.nonces)
        return BootstrapNonces(listed, Meta(now))


@contextmanager
def enrolling_server() -> Iterator[EnrollingServer]:
    """Serve on a free port of loopback, in a thread, while the context is open."""
    server = EnrollingServer()
    # Who calls before the thread is ready waits in the queue of the socket, which listens already.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        running = uvicorn.Server(uvicorn.Config(server.app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=anyio.run, args=(running.serve, [listening]), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()


def _problem(problem: HttpProblem) -> Response:
    return Response(encode_problem(problem), problem.status, media_type=PROBLEM_CONTENT_TYPE)
