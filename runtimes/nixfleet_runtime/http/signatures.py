"""Signed requests: HTTP Message Signatures (RFC 9421) with ed25519, over everything a request asks for.

The one module that knows the library. Told the time, like everything else.
Covered, always: `@method`, `@path`, `@query` (`?` when there is none) and `content-digest` (also that of an empty
body); the parameters are `created`, `keyid`, `alg`, `nonce` and `tag`. Nothing else may be in it: what this side does
not understand, it does not take a signature for. Signatures with other tags are other people's and left alone.
Source: design 6, Hosts; docs/design/03-network.md.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen
from http_message_signatures.algorithms import (
    HTTPSignatureAlgorithm,  # pyright: ignore[reportPrivateImportUsage]  # its documented home
)
from http_message_signatures.digests import ContentDigest
from http_message_signatures.exceptions import HTTPMessageSignaturesException, InvalidSignature
from http_message_signatures.resolvers import HTTPSignatureKeyResolver
from http_message_signatures.signatures import HTTPMessageSigner, HTTPMessageVerifier
from http_sf.compat import InnerList

from nixfleet_proto.signing import SigningKey, is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.headers import CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT
from nixfleet_runtime.http.nonces import NonceMemory
from nixfleet_runtime.http.refusal import (
    BadRequestSignature,
    DigestMismatch,
    MalformedRequestSignature,
    NotSignedRequest,
    RequestRefused,
    UnknownKey,
)

TAG: Final = "nixfleet-v1"
NONCE_LENGTH_MAX: Final = 64
KEY_ID_LENGTH_MAX: Final = 320

_LABEL = "nixfleet"
_SHOWN_LENGTH_MAX = 200
_COVERED = ("@method", "@path", "@query", "content-digest")
_PARAMETERS = ("created", "keyid", "alg", "nonce", "tag")
_FIELDS = {name.lower(): name for name in (SIGNATURE, SIGNATURE_INPUT, CONTENT_DIGEST)}


def new_nonce() -> str:
    """Return a nonce that nobody has used."""
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
    """Return the headers that make a request signed: Content-Digest, Signature-Input, Signature.

    path_and_query: as it stands in the request line, percent-encoded. nonce: 1 to 64 printable ASCII characters
    that `key` never signs with again: `new_nonce()`. key_id: from `key_id.py`. method: in upper case.
    """
    assert 1 <= len(nonce) <= NONCE_LENGTH_MAX, nonce
    assert 1 <= len(key_id) <= KEY_ID_LENGTH_MAX, key_id
    message = _Message(method, _url(path_and_query), {})
    signer = HTTPMessageSigner(signature_algorithm=_Ed25519, key_resolver=_OneKey(private_key=key))
    signer.sign(
        message,
        key_id=key_id,
        created=now,
        nonce=nonce,
        label=_LABEL,
        tag=TAG,
        covered_component_ids=_COVERED,
        body=body,
    )
    return message.headers


def verify_request(
    method: str,
    path_and_query: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: Callable[[str], TrustedKey | None],
    nonces: NonceMemory,
    now: datetime,
) -> str:
    """Return the id of the key that signed this very request, and use up its nonce.

    headers: anything whose `items()` has every line (names in any case). keys: the key that an id stands for; may
    raise a `RequestRefused` of its own. The freshness window is the memory's.
    Raises: NotSignedRequest, MalformedRequestSignature, SkewedClock, UnknownKey, BadRequestSignature,
    DigestMismatch, SignedBeforeStart, ReplayedNonce, NonceMemoryFull; the nonce is used up only if none is.
    """
    fields = _signature_fields(headers)
    verifier = _Verifier(keys, nonces, now)
    try:
        (result,) = verifier.verify(
            _Message(method, _url(path_and_query), fields), max_age=None, expect_tag=TAG
        )
    except HTTPMessageSignaturesException as error:
        raise verifier.refusal_for(error) from error
    claims = verifier.claims
    assert claims is not None
    _require_digest(result.covered_components['"content-digest"'], body, claims.key_id)
    nonces.take(claims.key_id, claims.nonce, claims.created, now)
    return claims.key_id


@frozen
class _Message:
    """A request as the library wants to see it."""

    method: str
    url: str
    headers: dict[str, str]


@frozen
class _Claims:
    """What a signature says of itself."""

    key_id: str
    nonce: str
    created: int


class _Ed25519(HTTPSignatureAlgorithm):
    """ed25519 with our own keys: a private one never leaves its `SigningKey`."""

    algorithm_id = "ed25519"

    def __init__(
        self, public_key: TrustedKey | None = None, private_key: SigningKey | None = None
    ) -> None:
        self._public_key = public_key
        self._private_key = private_key

    def sign(self, message: bytes) -> bytes:
        assert self._private_key is not None
        return self._private_key.sign(message)

    def verify(self, signature: bytes, message: bytes) -> None:
        assert self._public_key is not None
        if not is_signed_by(self._public_key, message, signature):
            raise InvalidSignature("another key made it, or what it covers was changed since")


@frozen
class _OneKey(HTTPSignatureKeyResolver):
    """The key that is at hand, whatever its id; which one that is was decided before."""

    public_key: TrustedKey | None = None
    private_key: SigningKey | None = None

    def resolve_public_key(self, key_id: str) -> TrustedKey | None:
        return self.public_key

    def resolve_private_key(self, key_id: str) -> SigningKey | None:
        return self.private_key


class _Verifier(HTTPMessageVerifier):
    """The library's verifier of one request, with our rules about what a signature must say of itself."""

    def __init__(
        self, keys: Callable[[str], TrustedKey | None], nonces: NonceMemory, now: datetime
    ) -> None:
        super().__init__(signature_algorithm=_Ed25519, key_resolver=None)
        self._keys = keys
        self._nonces = nonces
        self._now = now
        self.claims: _Claims | None = None

    def validate_created_and_expires(
        self, sig_input: InnerList, max_age: timedelta | None = None
    ) -> None:
        """The library asks this before anything else about a signature with our tag, and by its own clock."""
        if self.claims is not None:
            raise MalformedRequestSignature(f"one signature tagged {TAG!r}", "several")
        claims = _claims_of(sig_input)
        self._nonces.require_fresh(claims.key_id, claims.created, self._now)
        key = self._keys(claims.key_id)
        if key is None:
            raise UnknownKey(claims.key_id)
        self.key_resolver = _OneKey(public_key=key)
        self.claims = claims

    def refusal_for(self, error: HTTPMessageSignaturesException) -> RequestRefused:
        """Return what `error`, raised by `verify`, means for the request."""
        if self.claims is None:
            return MalformedRequestSignature(f"one signature tagged {TAG!r}", str(error))
        return BadRequestSignature(self.claims.key_id, str(error))


def _claims_of(sig_input: InnerList) -> _Claims:
    covered = [None if component.params else component.value for component in sig_input]
    if len(covered) != len(_COVERED) or set(covered) != set(_COVERED):
        raise MalformedRequestSignature(
            f"a signature over {', '.join(_COVERED)}",
            f"one over {str(sig_input)[:_SHOWN_LENGTH_MAX]}",
        )
    parameters = sig_input.params
    if parameters.keys() != set(_PARAMETERS):
        raise MalformedRequestSignature(
            f"the parameters {', '.join(_PARAMETERS)}", ", ".join(parameters)[:_SHOWN_LENGTH_MAX]
        )
    claims = _Claims(parameters["keyid"], parameters["nonce"], parameters["created"])
    _require_length("nonce", claims.nonce, NONCE_LENGTH_MAX)
    _require_length("keyid", claims.key_id, KEY_ID_LENGTH_MAX)
    return claims


def _require_length(name: str, value: str, maximum: int) -> None:
    if not 1 <= len(value) <= maximum:
        raise MalformedRequestSignature(
            f"a {name} of 1 to {maximum} characters", f"one of {len(value)}"
        )


def _require_digest(found: str, body: bytes, key_id: str) -> None:
    # Only what `sign_request` writes is taken: parsing all that RFC 9530 allows takes as long as the rest.
    expected = ContentDigest.create(body)
    if not hmac.compare_digest(expected.encode(), found.encode()):
        raise DigestMismatch(key_id, expected, found)


def _signature_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """The three headers that matter, by name in lower case; lines of one name joined, as RFC 9110 has it."""
    fields: dict[str, str] = {}
    for line_name, value in headers.items():
        name = line_name.lower()
        if name in _FIELDS:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    for name, header in _FIELDS.items():
        if name not in fields:
            raise NotSignedRequest(header)
    return fields


def _url(path_and_query: str) -> str:
    """The library takes URLs; which authority is in one makes no difference, since that is not covered."""
    if not path_and_query.startswith("/") or "#" in path_and_query:
        raise MalformedRequestSignature("a path from '/' on, with its query", repr(path_and_query))
    return f"http://any{path_and_query}"
