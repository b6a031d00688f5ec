"""The exact textual form in which this project signs requests, written and recognised. Text only: no keys, no clock.

A signature can be written in many forms, and parsing all of them (RFC 8941, structured fields) takes half the time of a
request. `sign_request` writes one form: this label, this order of components and parameters, strings without escapes,
a number without leading zeros, padded base64. Parsing and serialising that form changes nothing, so the signature base
(RFC 9421, 2.5) is built from the text as received. Any other form, even if only a space differs, may be valid too and
is read by `any_form`. Both accept and refuse the same signatures, with the same errors:
property_tests/test_request_signature_laws.py.
"""

import base64
import hashlib
import re
from typing import Final

from attrs import frozen

LABEL: Final = "nixfleet"
TAG: Final = "nixfleet-v1"
COVERED: Final = ("@method", "@path", "@query", "content-digest")
NONCE_LENGTH_MAX: Final = 64
KEY_ID_LENGTH_MAX: Final = 320

# RFC 3986: characters of a path and a query. RFC 8941, 3.3.3: characters of a string, except '"' and '\'.
_IN_PATH = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_IN_STRING = r"[ !#-\[\]-~]"
_OVER = " ".join(f'"{component}"' for component in COVERED)
_METHOD = re.compile(r"[A-Z]+")
_TARGET = re.compile(rf"(/{_IN_PATH}*)(?:\?((?:{_IN_PATH}|\?)*))?")
_DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:")
_INPUT = re.compile(
    rf'{LABEL}=(\({re.escape(_OVER)}\);created=([1-9][0-9]{{0,14}});keyid="({_IN_STRING}{{1,{KEY_ID_LENGTH_MAX}}})"'
    rf';alg="ed25519";nonce="({_IN_STRING}{{1,{NONCE_LENGTH_MAX}}})";tag="{TAG}")'
)
_SIGNATURE = re.compile(rf"{LABEL}=:([A-Za-z0-9+/]{{86}}==):")


@frozen
class Claims:
    """The claims of a signature: key id, nonce, creation time in seconds since 1970, and the body's digest header."""

    key_id: str
    nonce: str
    created: int
    digest: str


@frozen
class SignedForm:
    """A recognised signature. base: the bytes that are signed."""

    claims: Claims
    base: bytes


def form_of(
    method: str, path_and_query: str, content_digest: str, signature_input: str
) -> SignedForm | None:
    """Return the recognised signature; `None` if it is not in our form. The last two arguments are header values."""
    target, input_ = _TARGET.fullmatch(path_and_query), _INPUT.fullmatch(signature_input)
    if target is None or input_ is None:
        return None
    if not (_METHOD.fullmatch(method) and _DIGEST.fullmatch(content_digest)):
        return None
    path, query = target.groups("")
    parameters, created, key_id, nonce = input_.groups()
    base = (
        f'"@method": {method}\n'
        f'"@path": {path}\n'
        f'"@query": ?{query}\n'
        f'"content-digest": {content_digest}\n'
        f'"@signature-params": {parameters}'
    )
    return SignedForm(Claims(key_id, nonce, int(created), content_digest), base.encode())


def signature_input(key_id: str, nonce: str, created: int) -> str:
    """Return the value of `Signature-Input`. It is in our form if no string needs an escape."""
    return (
        f'{LABEL}=({_OVER});created={created};keyid="{key_id}"'
        f';alg="ed25519";nonce="{nonce}";tag="{TAG}"'
    )


def signature_field(signature: bytes) -> str:
    """Return the value of `Signature`."""
    return f"{LABEL}=:{base64.b64encode(signature).decode()}:"


def signature_in(field: str) -> bytes | None:
    """Return the 64 bytes in the value of `Signature`; `None` if it is not in our form."""
    found = _SIGNATURE.fullmatch(field)
    return None if found is None else base64.b64decode(found[1])


def content_digest(body: bytes) -> str:
    """Return the value of `Content-Digest` (RFC 9530) for a body, which may be empty."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
