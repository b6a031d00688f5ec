"""The enrollment call. It is signed with the key that it enrolls, so its body is decoded before authentication.

Source: docs/spec/wire.md, POST /v1/enroll; docs/spec/trust.md, Enrollment.
"""

from typing import Final

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import Refusal, malformed, no_content
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.enrollment_problems import problem_of
from nixfleet_control_plane.messages.inputs import EnrollHost
from nixfleet_control_plane.messages.key_ring import EnrolledHost, EnrollmentObjection, TokenRefused
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.enrollment import ENROLL_REQUEST
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.signing import (
    RejectedAsCompromised,
    TokenExpired,
    TokenNotYetIssued,
    fingerprint_of,
)
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.request_limits import RequestCoder

ENROLLMENT: Final = RequestCoder.limiting(ENROLL_REQUEST)


@frozen
class EnrollmentRoutes:
    """The call of a host that is not enrolled yet."""

    service: ControlPlaneService
    authenticator: Authenticator

    async def enroll(self, request: Request) -> Response:
        """204 once the enrollment is durable. Idempotent."""
        body = await self.authenticator.enrollment_body(request)
        try:
            enroll_request = ENROLLMENT.decode(body)
        except DecodeError as error:
            raise malformed(error) from error
        objection = self.service.token_objection(enroll_request)
        if objection is not None:
            raise self._refused(enroll_request, objection)
        signer = self.authenticator.enrolling_host(request, body, enroll_request)
        answer = await self.service.enroll(EnrollHost(enroll_request, signer))
        if not isinstance(answer, EnrolledHost):
            raise self._refused(enroll_request, answer)
        return no_content()

    def _refused(self, request: EnrollRequest, objection: EnrollmentObjection) -> Refusal:
        """Return the refusal, after noting it for operators."""
        refused = Refusal(problem_of(objection))
        # A token that no key of the organisation signed comes from anybody, and would crowd out the others.
        if isinstance(objection, TokenRefused) and not isinstance(
            objection.reason, TokenExpired | TokenNotYetIssued | RejectedAsCompromised
        ):
            return refused
        key = TrustedKey(request.public_key)
        self.service.notices.enrollment_refused(
            request.token.token.hostname,
            fingerprint_of(key),
            refused.problem.type.rpartition(":")[2],
            str(objection),
            self.service.now(),
        )
        return refused


ENROLLMENT_CALLS: Final[tuple[Call[EnrollmentRoutes], ...]] = (
    Call(
        "POST",
        paths.ENROLL,
        EnrollmentRoutes.enroll,
        Caller.ENROLLING_HOST,
        (
            Answer(204, "the host is enrolled"),
            Answer(
                403,
                "the token is for another key or is not on the signed list, or the host is revoked",
            ),
            Answer(409, "the token was already used, or the fleet declares another key"),
        ),
        takes=ENROLLMENT,
    ),
)
