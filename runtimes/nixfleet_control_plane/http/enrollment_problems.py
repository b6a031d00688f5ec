"""The problem for each reason why a host may not enroll. Pure.

Source: docs/spec/wire.md, POST /v1/enroll.
"""

from typing import assert_never

from nixfleet_control_plane.messages.key_ring import (
    DeclaredOtherwise,
    EnrollmentObjection,
    NonceNotListed,
    NonceUsed,
    RevokedUntil,
    SignedByAnother,
    TokenRefused,
    WrongFingerprint,
)
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem


def problem_of(objection: EnrollmentObjection) -> HttpProblem:
    """Return the problem for `objection`: 401 for identity, 403 for permission, 409 for a conflict."""
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
    return HttpProblem(TYPE_PREFIX + name, "The host may not enroll", status, str(objection))
