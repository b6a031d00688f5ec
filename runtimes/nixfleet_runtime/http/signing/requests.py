"""Signs and verifies requests: HTTP Message Signatures (RFC 9421) with ed25519. The time is an argument.

`our_form` reads signatures in our own form, `any_form` all others; this module decides for both whether they are
valid. The covered components are always `@method`, `@path`, `@query` (`?` if there is none) and `content-digest` (also
for an empty body); the parameters are `created`, `keyid`, `alg`, `nonce` and `tag`. A signature with anything else is
refused, because its meaning is unknown. Signatures with other tags are ignored.
Source: docs/spec/trust.md, Request signatures; docs/explanation/decisions/network.md.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime

from nixfleet_proto.signing import SigningKey, VerifyError, is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.headers import CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT
from nixfleet_runtime.http.signing.any_form import (
    NOT_BY_THIS_KEY,
    sign_with_library,
    verified_by_library,
)
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.our_form import (
    KEY_ID_LENGTH_MAX,
    NONCE_LENGTH_MAX,
    Claims,
    SignedForm,
    content_digest,
    form_of,
    signature_field,
    signature_in,
    signature_input,
)
from nixfleet_runtime.http.signing.refusal import (
    BadRequestSignature,
    DigestMismatch,
    NotSignedRequest,
    UnknownKey,
)

_INPUT, _SIGNATURE, _DIGEST = SIGNATURE_INPUT.lower(), SIGNATURE.lower(), CONTENT_DIGEST.lower()
_FIELDS = {_SIGNATURE: SIGNATURE, _INPUT: SIGNATURE_INPUT, _DIGEST: CONTENT_DIGEST}


def new_nonce() -> str:
    """Return a random nonce."""
    return secrets.token_urlsafe(16)


def sign_request(
    key: SigningKey,
    key_id: str,
    method: str,
    path_and_query: str,
    body: bytes,
    now: datetime,
    nonce: str,
) -> Mapping[str, str]:
    """Return the headers that sign a request: Content-Digest, Signature-Input, Signature.

    path_and_query: as in the request line, percent-encoded. nonce: 1 to 64 printable ASCII characters, used once per
    key: `new_nonce()`. key_id: from `key_id.py`. method: in upper case.
    """
    assert 1 <= len(nonce) <= NONCE_LENGTH_MAX, nonce
    assert 1 <= len(key_id) <= KEY_ID_LENGTH_MAX, key_id
    digest = content_digest(body)
    input_ = signature_input(key_id, nonce, int(now.timestamp()))
    form = form_of(method, path_and_query, digest, input_)
    if form is None:
        return sign_with_library(key, key_id, method, path_and_query, body, now, nonce)
    signature = signature_field(key.sign(form.base))
    return {CONTENT_DIGEST: digest, SIGNATURE_INPUT: input_, SIGNATURE: signature}


def verify_request(
    method: str,
    path_and_query: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: Callable[[str], TrustedKey | None],
    nonces: NonceMemory,
    now: datetime,
) -> str:
    """Return the id of the key that signed this request, and mark its nonce as used.

    headers: a mapping whose `items()` has every header line; names in any case. keys: returns the key of a key id; may
    raise a `RequestRefused`. nonces: also defines the freshness window.
    Raises: NotSignedRequest, MalformedRequestSignature, SkewedClock, UnknownKey, BadRequestSignature,
    DigestMismatch, SignedBeforeStart, ReplayedNonce, NonceMemoryFull; the nonce is not marked then.
    """

    def trusted(key_id: str, created: int) -> TrustedKey:
        # Checked first, so that floods of old requests cost no cryptography.
        nonces.require_fresh(key_id, created, now)
        key = keys(key_id)
        if key is None:
            raise UnknownKey(key_id)
        return key

    fields = _signature_fields(headers)
    form = form_of(method, path_and_query, fields[_DIGEST], fields[_INPUT])
    signature = signature_in(fields[_SIGNATURE])
    if form is None or signature is None:
        claims = verified_by_library(method, path_and_query, fields, trusted)
    else:
        claims = _verified(form, signature, trusted(form.claims.key_id, form.claims.created))
    _require_digest(claims.digest, body, claims.key_id)
    nonces.take(claims.key_id, claims.nonce, claims.created, now)
    return claims.key_id


def _verified(form: SignedForm, signature: bytes, key: TrustedKey) -> Claims:
    try:
        is_good = is_signed_by(key, form.base, signature)
    except VerifyError as error:
        raise BadRequestSignature(form.claims.key_id, str(error)) from error
    if not is_good:
        raise BadRequestSignature(form.claims.key_id, NOT_BY_THIS_KEY)
    return form.claims


def _require_digest(found: str, body: bytes, key_id: str) -> None:
    # Only the form of `sign_request` is accepted: parsing all of RFC 9530 takes as long as everything else.
    expected = content_digest(body)
    if not hmac.compare_digest(expected.encode(), found.encode()):
        raise DigestMismatch(key_id, expected, found)


def _signature_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the three signature headers, by lower-case name; repeated lines are joined, as in RFC 9110."""
    fields: dict[str, str] = {}
    for line_name, value in headers.items():
        name = line_name.lower()
        if name in _FIELDS:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    for name, header in _FIELDS.items():
        if name not in fields:
            raise NotSignedRequest(header)
    return fields
