"""The call by which a host becomes known. It is signed with the key it brings, so its body is read first.

Source: docs/spec/wire.md, POST /v1/enroll; docs/spec/trust.md, Enrollment.
"""

from typing import Final, assert_never

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import Refusal, malformed, nothing, refusal
from nixfleet_control_plane.http.authentication import Gatekeeper
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.messages.inputs import EnrollHost
from nixfleet_control_plane.messages.key_ring import (
    DeclaredOtherwise,
    EnrolledHost,
    EnrollmentObjection,
    NonceNotListed,
    NonceUsed,
    RevokedUntil,
    SignedByAnother,
    TokenRefused,
    WrongFingerprint,
)
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec import DecodeError, decode_enroll_request
from nixfleet_proto.codec.enrollment import ENROLL_REQUEST
from nixfleet_runtime.http import paths

_TITLE = "The host may not enroll"


@frozen
class EnrollmentRoutes:
    """What a host can call that is not known yet."""

    service: ControlPlaneService
    gatekeeper: Gatekeeper

    async def enroll(self, request: Request) -> Response:
        """204 once the host is known, durably. The same wish again is answered the same."""
        body = await self.gatekeeper.unsigned(request)
        try:
            wish = decode_enroll_request(body)
        except DecodeError as error:
            raise malformed(error) from error
        signer = self.gatekeeper.newcomer(request, body, wish)
        answer = await self.service.enroll(EnrollHost(wish, signer))
        if not isinstance(answer, EnrolledHost):
            raise refusal_of(answer)
        return nothing()


def refusal_of(objection: EnrollmentObjection) -> Refusal:
    """Return what the host is told: 401 who it says it is, 403 what it wants, 409 what is there already."""
    match objection:
        case TokenRefused():
            name, status = "token-refused", 401
        case SignedByAnother():
            name, status = "signed-by-another", 401
        case WrongFingerprint():
            name, status = "wrong-fingerprint", 403
        case NonceNotListed():
            name, status = "nonce-not-listed", 403
        case RevokedUntil():
            name, status = "revoked-until", 403
        case NonceUsed():
            name, status = "nonce-used", 409
        case DeclaredOtherwise():
            name, status = "declared-otherwise", 409
        case _:
            assert_never(objection)
    return refusal(name, _TITLE, status, str(objection))


NEWCOMER_CALLS: Final[tuple[Call[EnrollmentRoutes], ...]] = (
    Call(
        "POST",
        paths.ENROLL,
        EnrollmentRoutes.enroll,
        Caller.NEWCOMER,
        (
            Answer(204, "the host is known from now on, or was"),
            Answer(
                403,
                "the token is for another key, or not on the signed list, or the host is revoked",
            ),
            Answer(409, "the token was used, or the fleet declares another key"),
        ),
        takes=ENROLL_REQUEST,
    ),
)
