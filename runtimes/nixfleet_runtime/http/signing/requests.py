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
from typing import TypeAlias

from nixfleet_proto.signing import Signer, SigningKey, VerifyError, is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.headers import CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT
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
    DigestMismatch,
    NotSignedRequest,
    RevokedKey,
    UnknownKey,
)

SignatureCheck: TypeAlias = Callable[[TrustedKey, bytes, bytes], bool]
"""Returns whether a key signed a message, as `is_signed_by` does. Raises: VerifyError."""

_INPUT, _SIGNATURE, _DIGEST = SIGNATURE_INPUT.lower(), SIGNATURE.lower(), CONTENT_DIGEST.lower()
# Its private half is forgotten as soon as it is made.
_NOBODYS = SigningKey.generate().public_key
_FIELDS = {_SIGNATURE: SIGNATURE, _INPUT: SIGNATURE_INPUT, _DIGEST: CONTENT_DIGEST}


def new_nonce() -> str:
    """Return a random nonce."""
    return secrets.token_urlsafe(16)


def sign_request(
    key: Signer,
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
        # Imported where it is needed: it needs a library that the simulated fleet goes without.
        from nixfleet_runtime.http.signing.any_form import sign_with_library

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
    *,
    is_good: SignatureCheck = is_signed_by,
) -> str:
    """Return the id of the key that signed this request, and mark its nonce as used.

    For callers that have the body; a server calls `verify_head` before it reads the body.
    Raises: as `verify_head`, `require_digest` and `NonceMemory.take`; the nonce is not marked then.
    """
    claims = verify_head(method, path_and_query, headers, keys, nonces, now, is_good=is_good)
    require_digest(claims, body)
    nonces.take(claims.key_id, claims.nonce, claims.created, now)
    return claims.key_id


def verify_head(
    method: str,
    path_and_query: str,
    headers: Mapping[str, str],
    keys: Callable[[str], TrustedKey | None],
    nonces: NonceMemory,
    now: datetime,
    *,
    is_good: SignatureCheck = is_signed_by,
) -> Claims:
    """Return what the signature of a request says; it is good and fresh, and its nonce is not used up.

    The body is not needed: the signature covers its digest. What remains is `nonces.take` and `require_digest`.
    headers: anything whose `items()` has every line (names in any case). keys: the key that an id stands for; raises
    `RevokedKey` for one that no longer does. The freshness window is the memory's. is_good: checks signatures in our
    form; another one than ed25519's only where nobody is to be kept out, as in the simulated fleet.
    An id without a key costs as much as one with a key, and its refusal is that of a signature by another key: from
    neither can a stranger tell which ids have keys. Only who has a revoked key learns that it is revoked.
    Raises: NotSignedRequest, MalformedRequestSignature, SkewedClock, SignedBeforeStart, UnknownKey, RevokedKey.
    """
    revoked: RevokedKey | None = None

    def trusted(key_id: str, created: int) -> TrustedKey:
        nonlocal revoked
        # Checked first, so that floods of old requests cost no cryptography.
        nonces.require_fresh(key_id, created, now)
        try:
            return keys(key_id) or _NOBODYS
        except RevokedKey as refused:
            revoked = refused
            return refused.key

    fields = _signature_fields(headers)
    form = form_of(method, path_and_query, fields[_DIGEST], fields[_INPUT])
    signature = signature_in(fields[_SIGNATURE])
    if form is None or signature is None:
        from nixfleet_runtime.http.signing.any_form import verified_by_library

        claims = verified_by_library(method, path_and_query, fields, trusted)
    else:
        claims = _verified(
            form, signature, trusted(form.claims.key_id, form.claims.created), is_good
        )
    if revoked is not None:
        raise revoked
    return claims


def require_digest(claims: Claims, body: bytes) -> None:
    """Return if `body` is the one that was signed. Raises: DigestMismatch."""
    # Only what `sign_request` writes is taken: parsing all that RFC 9530 allows takes as long as the rest.
    expected = content_digest(body)
    if not hmac.compare_digest(expected.encode(), claims.digest.encode()):
        raise DigestMismatch(claims.key_id, expected, claims.digest)


def _verified(
    form: SignedForm, signature: bytes, key: TrustedKey, is_good: SignatureCheck
) -> Claims:
    try:
        is_by_key = is_good(key, form.base, signature)
    except VerifyError as error:
        raise UnknownKey(form.claims.key_id) from error
    if not is_by_key:
        raise UnknownKey(form.claims.key_id)
    return form.claims


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
