"""Who asks: every request but the probes of load balancers is signed by a host or an operator.

The rules are elsewhere: signatures in `nixfleet_runtime.http.signatures`, keys in `identity`. Here they are asked
in order, before the body is looked at.
Source: design 6, Hosts and Operators.
"""

from collections.abc import Callable
from typing import assert_never

from attrs import frozen
from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, refusal
from nixfleet_control_plane.http.bodies import read_body
from nixfleet_control_plane.http.limits import Limits
from nixfleet_control_plane.identity import KeyRing
from nixfleet_proto.trust import Operator, OperatorRole, TrustedKey
from nixfleet_runtime.clock import Clock
from nixfleet_runtime.http.headers import PROTOCOL, require_protocol
from nixfleet_runtime.http.key_id import HostSubject, OperatorSubject, host_key_id, subject_of
from nixfleet_runtime.http.nonces import NonceMemory
from nixfleet_runtime.http.refusal import RequestRefused
from nixfleet_runtime.http.signatures import verify_request


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


class Gatekeeper:
    """Lets requests in. ring: returns the keys that are in force now."""

    def __init__(
        self, ring: Callable[[], KeyRing], nonces: NonceMemory, limits: Limits, clock: Clock
    ) -> None:
        self._ring = ring
        self._nonces = nonces
        self._limits = limits
        self._clock = clock

    async def host(self, request: Request) -> HostRequest:
        """Return the request of an enrolled host. Raises: Refusal."""
        key_id, body = await self._signed(request)
        subject = subject_of(key_id)
        match subject:
            case HostSubject(hostname):
                key = self._ring().key_of(host_key_id(hostname))
                assert key is not None, "a key that has just been used is known"
                return HostRequest(hostname, key, body)
            case OperatorSubject() | None:
                raise _not_for(key_id, "hosts")
            case _:
                assert_never(subject)

    async def operator(self, request: Request, role: OperatorRole) -> OperatorRequest:
        """Return the request of an operator who may do what `role` may. Raises: Refusal."""
        key_id, body = await self._signed(request)
        operator = self._ring().operator_of(key_id)
        if operator is None:
            raise _not_for(key_id, "operators")
        if role is OperatorRole.OPERATE and operator.role is not OperatorRole.OPERATE:
            raise refusal(
                "role",
                "Not with this role",
                403,
                f"expected role {role.value}, found {operator.role.value} for {operator.name}",
            )
        return OperatorRequest(operator, body)

    async def unsigned(self, request: Request) -> bytes:
        """Return the body of a request whose signature is checked by who reads it. Raises: Refusal."""
        self._require_protocol(request)
        return await read_body(request, self._limits)

    async def _signed(self, request: Request) -> tuple[str, bytes]:
        body = await self.unsigned(request)
        try:
            key_id = verify_request(
                request.method,
                path_and_query_of(request),
                request.headers,
                body,
                self._ring().key_of,
                self._nonces,
                self._clock.now(),
            )
        except RequestRefused as refused:
            raise Refusal(refused.as_problem(), refused.headers) from refused
        return key_id, body

    def _require_protocol(self, request: Request) -> None:
        # Two lines that say different things are a version that nobody knows.
        lines = request.headers.getlist(PROTOCOL)
        try:
            require_protocol(", ".join(lines) if lines else None)
        except RequestRefused as refused:
            raise Refusal(refused.as_problem(), refused.headers) from refused


def path_and_query_of(request: Request) -> str:
    """Return what stood in the request line, before anything was decoded."""
    raw_path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (raw_path + (b"?" + query if query else b"")).decode("latin-1")


def _not_for(key_id: str, whom: str) -> Refusal:
    return refusal("not-for-you", "Not with this key", 403, f"only {whom} may, found {key_id!r}")
