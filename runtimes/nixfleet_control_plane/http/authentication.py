"""Authentication: every request except those of load balancers and scrapers is signed by a host or an operator.

The rules are elsewhere: signatures in `nixfleet_runtime.http.signing.requests`, keys in `messages.key_ring`. This
module
applies them in order, before the body is decoded.
Source: docs/spec/trust.md, Request signatures; docs/spec/trust.md, Operators.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import assert_never

from attrs import frozen
from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, refusal
from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.http.server.bodies import read_body, require_readable
from nixfleet_control_plane.http.server.fields import fields_of
from nixfleet_control_plane.http.server.limits import ENROLLMENT_BYTES_MAX, HostRates, Limits
from nixfleet_control_plane.messages.key_ring import KeyRing, claimed_key
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.trust import Operator, OperatorRole, TrustedKey
from nixfleet_runtime.http.headers import PROTOCOL, require_protocol
from nixfleet_runtime.http.signing.key_id import (
    HostSubject,
    OperatorSubject,
    host_key_id,
    operator_key_id,
    subject_of,
)
from nixfleet_runtime.http.signing.nonces import ENROLLMENTS_MAX, NonceMemory
from nixfleet_runtime.http.signing.our_form import Claims
from nixfleet_runtime.http.signing.refusal import UnknownKey
from nixfleet_runtime.http.signing.requests import require_digest, verify_head, verify_request
from nixfleet_runtime.kernel.clock import Clock

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
        contacts: Contacts,
    ) -> None:
        self._ring = ring
        self._nonces = nonces
        self._commands = commands
        self._limits = limits
        self._rates = HostRates("requests", limits.host_requests_per_second_max)
        self._event_rates = HostRates("events", limits.host_events_per_second_max)
        self._clock = clock
        self._contacts = contacts
        # Separate, because anyone can sign with an unknown key, and that must not use up the nonce memory of known
        # clients. A request from before the start may have been granted then; repeating it gives the same answer.
        since = clock.now() - timedelta(seconds=nonces.window_seconds)
        self._enrollments = NonceMemory(nonces.window_seconds, since, limit=ENROLLMENTS_MAX)

    async def host(self, request: Request, *, body_bytes_max: int | None = 0) -> HostRequest:
        """Return the request of an enrolled host.

        body_bytes_max: 0 for a call without a body; `None`: as many as the configuration allows.
        Raises: Refusal, RequestRefused.
        """
        claims = self._signed_head(request, body_bytes_max)
        subject = subject_of(claims.key_id)
        match subject:
            case HostSubject(hostname):
                self._rates.count(hostname, self._clock.now().timestamp())
                key = self._ring().key_of(claims.key_id)
                assert key is not None, "a key that has just been used is known"
                body = await self._signed_body(request, claims, self._nonces, body_bytes_max)
                self.require_current(hostname, key)
                self._contacts.heard(hostname, claims.created, self._clock.now())
                return HostRequest(hostname, key, body)
            case OperatorSubject() | None:
                raise _not_for(claims.key_id, "hosts")
            case _:
                assert_never(subject)

    def require_current(self, hostname: str, key: TrustedKey) -> None:
        """To be called after a wait: the key may have been revoked or replaced meanwhile.

        Raises: RequestRefused, as for a request that is signed with that key now.
        """
        key_id = host_key_id(hostname)
        if self._ring().key_of(key_id) != key:
            raise UnknownKey(key_id)

    def is_current(self, operator: Operator) -> bool:
        """Return whether the operator still has this key and this role: the trust file may be another by now."""
        known = self._ring().operators.get(operator.name)
        return known is operator or known == operator

    def require_current_operator(self, operator: Operator) -> None:
        """To be called after a wait. Raises: RequestRefused, as for a request that is signed with that key now."""
        if not self.is_current(operator):
            raise UnknownKey(operator_key_id(operator.name))

    def count_events(self, hostname: str, number: int) -> None:
        """Count events that a host sent. Raises: Refusal, 429, if they are too many."""
        self._event_rates.count(hostname, self._clock.now().timestamp(), number)

    async def operator(
        self, request: Request, role: OperatorRole, *, body_bytes_max: int | None = 0
    ) -> OperatorRequest:
        """Return the request of an operator whose role includes `role`. Raises: Refusal, RequestRefused."""
        claims = self._signed_head(request, body_bytes_max)
        operator = self._ring().operator_of(claims.key_id)
        if operator is None:
            raise _not_for(claims.key_id, "operators")
        if role is OperatorRole.OPERATE and operator.role is not OperatorRole.OPERATE:
            raise refusal(
                "role",
                "The operator's role does not permit this",
                403,
                f"expected role {role.value}, found {operator.role.value} for {operator.name}",
            )
        nonces = self._commands if role is OperatorRole.OPERATE else self._nonces
        return OperatorRequest(
            operator, await self._signed_body(request, claims, nonces, body_bytes_max)
        )

    async def enrollment_body(self, request: Request) -> bytes:
        """Return the body of a request whose key is in the body. Raises: Refusal, RequestRefused."""
        self._require_readable(request, ENROLLMENT_BYTES_MAX)
        return await read_body(request, ENROLLMENT_BYTES_MAX)

    def enrolling_host(
        self, request: Request, body: bytes, enroll_request: EnrollRequest
    ) -> TrustedKey:
        """Return the key that `enroll_request`, decoded from `body`, enrolls and is signed with.

        To be called only if the org root key signed the token: room for nonces of enrollments is scarce.
        Raises: RequestRefused.
        """
        keys = claimed_key(enroll_request)
        key_id = verify_request(
            request.method,
            path_and_query_of(request),
            fields_of(request),
            body,
            keys,
            self._enrollments,
            self._clock.now(),
        )
        key = keys(key_id)
        assert key is not None, "a key that has just been used is known"
        return key

    # All that can be known without the body is asked before the body is taken.

    def _signed_head(self, request: Request, body_bytes_max: int | None) -> Claims:
        fields = self._require_readable(request, self._bytes_max(body_bytes_max))
        return verify_head(
            request.method,
            path_and_query_of(request),
            fields,
            self._ring().key_of,
            self._nonces,
            self._clock.now(),
        )

    async def _signed_body(
        self, request: Request, claims: Claims, nonces: NonceMemory, body_bytes_max: int | None
    ) -> bytes:
        # A signature is good for one body: used up before it comes, or many could be sent for one.
        nonces.take(claims.key_id, claims.nonce, claims.created, self._clock.now())
        body = await read_body(request, self._bytes_max(body_bytes_max))
        require_digest(claims, body)
        return body

    def _bytes_max(self, body_bytes_max: int | None) -> int:
        return self._limits.body_bytes_max if body_bytes_max is None else body_bytes_max

    def _require_readable(self, request: Request, bytes_max: int) -> Mapping[str, str]:
        fields = fields_of(request)
        require_protocol(fields.get(_PROTOCOL))
        require_readable(fields, bytes_max)
        return fields


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
