"""Authentication: every request except those of load balancers and scrapers is signed by a host or an operator.

The rules are elsewhere: signatures in `nixfleet_runtime.http.signing.requests`, keys in `messages.key_ring`. This
module
applies them in order, before the body is decoded.
Source: docs/spec/trust.md, Request signatures; docs/spec/trust.md, Operators.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, assert_never

from attrs import frozen
from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, refusal
from nixfleet_control_plane.http.server.bodies import read_body
from nixfleet_control_plane.http.server.fields import fields_of
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.messages.key_ring import KeyRing, claimed_key
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.trust import Operator, OperatorRole, TrustedKey
from nixfleet_runtime.http.headers import PROTOCOL, require_protocol
from nixfleet_runtime.http.signing.key_id import HostSubject, OperatorSubject, subject_of
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import RequestRefused
from nixfleet_runtime.http.signing.requests import verify_request
from nixfleet_runtime.kernel.clock import Clock

ENROLLMENTS_MAX: Final = 10_000
"""The maximum number of fresh enrollment requests that are remembered at once."""
_PROTOCOL = PROTOCOL.lower()


@frozen
class HostRequest:
    """A request that `hostname` signed with `key`."""

    hostname: str
    key: TrustedKey
    body: bytes


@frozen
class OperatorRequest:
    """A request that an operator signed."""

    operator: Operator
    body: bytes


class Authenticator:
    """Authenticates requests. ring: returns the keys in force. commands: the nonces of operators' commands.

    Hosts' requests and read requests are idempotent; a command is not. So commands have a nonce memory of their own,
    which also refuses those that an earlier process may have carried out, without delaying other requests.
    """

    def __init__(
        self,
        ring: Callable[[], KeyRing],
        nonces: NonceMemory,
        commands: NonceMemory,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._ring = ring
        self._nonces = nonces
        self._commands = commands
        self._limits = limits
        self._clock = clock
        # Separate, because anyone can sign with an unknown key, and that must not use up the nonce memory of known
        # clients. A request from before the start may have been granted then; repeating it gives the same answer.
        since = clock.now() - timedelta(seconds=nonces.window_seconds)
        self._enrollments = NonceMemory(nonces.window_seconds, since, limit=ENROLLMENTS_MAX)

    async def host(self, request: Request) -> HostRequest:
        """Return the request of an enrolled host. Raises: Refusal."""
        key_id, body = await self._signed(request, self._nonces)
        subject = subject_of(key_id)
        match subject:
            case HostSubject(hostname):
                key = self._ring().key_of(key_id)
                assert key is not None, "a key that has just been used is known"
                return HostRequest(hostname, key, body)
            case OperatorSubject() | None:
                raise _not_for(key_id, "hosts")
            case _:
                assert_never(subject)

    async def operator(self, request: Request, role: OperatorRole) -> OperatorRequest:
        """Return the request of an operator whose role includes `role`. Raises: Refusal."""
        nonces = self._commands if role is OperatorRole.OPERATE else self._nonces
        key_id, body = await self._signed(request, nonces)
        operator = self._ring().operator_of(key_id)
        if operator is None:
            raise _not_for(key_id, "operators")
        if role is OperatorRole.OPERATE and operator.role is not OperatorRole.OPERATE:
            raise refusal(
                "role",
                "The operator's role does not permit this",
                403,
                f"expected role {role.value}, found {operator.role.value} for {operator.name}",
            )
        return OperatorRequest(operator, body)

    async def unsigned(self, request: Request) -> bytes:
        """Return the body of a request whose signature the caller verifies later. Raises: Refusal."""
        return await self._read(request, fields_of(request))

    def enrolling_host(
        self, request: Request, body: bytes, enroll_request: EnrollRequest
    ) -> TrustedKey:
        """Return the key that `enroll_request`, decoded from `body`, enrolls and is signed with. Raises: Refusal."""
        keys = claimed_key(enroll_request)
        fields = fields_of(request)
        key = keys(self._verified(request, fields, body, keys, self._enrollments))
        assert key is not None, "a key that has just been used is known"
        return key

    async def _signed(self, request: Request, nonces: NonceMemory) -> tuple[str, bytes]:
        fields = fields_of(request)
        body = await self._read(request, fields)
        return self._verified(request, fields, body, self._ring().key_of, nonces), body

    async def _read(self, request: Request, fields: Mapping[str, str]) -> bytes:
        try:
            require_protocol(fields.get(_PROTOCOL))
        except RequestRefused as refused:
            raise Refusal(refused.as_problem(), refused.headers) from refused
        return await read_body(request, fields, self._limits)

    def _verified(
        self,
        request: Request,
        fields: Mapping[str, str],
        body: bytes,
        keys: Callable[[str], TrustedKey | None],
        nonces: NonceMemory,
    ) -> str:
        try:
            return verify_request(
                request.method,
                path_and_query_of(request),
                fields,
                body,
                keys,
                nonces,
                self._clock.now(),
            )
        except RequestRefused as refused:
            raise Refusal(refused.as_problem(), refused.headers) from refused


def path_and_query_of(request: Request) -> str:
    """Return path and query as they were in the request line, before decoding."""
    raw_path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (raw_path + (b"?" + query if query else b"")).decode("latin-1")


def _not_for(key_id: str, callers: str) -> Refusal:
    return refusal(
        "not-for-you",
        "The key does not permit this",
        403,
        f"expected a key of {callers}, found {key_id!r}",
    )
