"""Signatures in any RFC 9421 form, read with a library. The only module that imports it.

Any implementation of RFC 9421 can sign requests for us; the requirements on its signatures are the same as on ours.
Source: RFC 9421; docs/explanation/decisions/network.md.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from attrs import frozen
from http_message_signatures.algorithms import (
    HTTPSignatureAlgorithm,  # pyright: ignore[reportPrivateImportUsage]  # its documented home
)
from http_message_signatures.exceptions import HTTPMessageSignaturesException, InvalidSignature
from http_message_signatures.resolvers import HTTPSignatureKeyResolver
from http_message_signatures.signatures import HTTPMessageSigner, HTTPMessageVerifier
from http_sf.compat import InnerList

from nixfleet_proto.signing import Signer, is_signed_by
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.signing.our_form import (
    COVERED,
    KEY_ID_LENGTH_MAX,
    LABEL,
    NONCE_LENGTH_MAX,
    TAG,
    Claims,
)
from nixfleet_runtime.http.signing.refusal import (
    MalformedRequestSignature,
    RequestRefused,
    UnknownKey,
)

_SHOWN_LENGTH_MAX = 200
_PARAMETERS = ("created", "keyid", "alg", "nonce", "tag")


def sign_with_library(
    key: Signer,
    key_id: str,
    method: str,
    path_and_query: str,
    body: bytes,
    now: datetime,
    nonce: str,
) -> Mapping[str, str]:
    """As `sign_request`, also for strings that need escapes."""
    message = _Message(method, _url(path_and_query), {})
    signer = HTTPMessageSigner(signature_algorithm=_Ed25519, key_resolver=_OneKey(private_key=key))
    signer.sign(
        message,
        key_id=key_id,
        created=now,
        nonce=nonce,
        label=LABEL,
        tag=TAG,
        covered_component_ids=COVERED,
        body=body,
    )
    return message.headers


def verified_by_library(
    method: str,
    path_and_query: str,
    fields: Mapping[str, str],
    trusted: Callable[[str, int], TrustedKey],
) -> Claims:
    """Return the claims of the signature in `fields`, which is valid. The body's digest has not been checked.

    fields: the three headers, by lower-case name. trusted: returns the key for a key id and a creation time; may raise
    a `RequestRefused`. Raises: MalformedRequestSignature, UnknownKey, what `trusted` raises.
    """
    verifier = _Verifier(trusted)
    try:
        (result,) = verifier.verify(
            _Message(method, _url(path_and_query), dict(fields)), max_age=None, expect_tag=TAG
        )
    except HTTPMessageSignaturesException as error:
        raise verifier.refusal_for(error) from error
    assert verifier.found is not None
    digest = result.covered_components['"content-digest"']
    return Claims(*verifier.found, digest)


@frozen
class _Message:
    """A request in the form that the library takes."""

    method: str
    url: str
    headers: dict[str, str]


class _Ed25519(HTTPSignatureAlgorithm):
    """ed25519 with our key classes: a private key never leaves its `SigningKey`."""

    algorithm_id = "ed25519"

    def __init__(
        self, public_key: TrustedKey | None = None, private_key: Signer | None = None
    ) -> None:
        self._public_key = public_key
        self._private_key = private_key

    def sign(self, message: bytes) -> bytes:
        assert self._private_key is not None
        return self._private_key.sign(message)

    def verify(self, signature: bytes, message: bytes) -> None:
        assert self._public_key is not None
        if not is_signed_by(self._public_key, message, signature):
            raise InvalidSignature("another key made it")


@frozen
class _OneKey(HTTPSignatureKeyResolver):
    """Resolves every key id to one key, which the caller has chosen."""

    public_key: TrustedKey | None = None
    private_key: Signer | None = None

    def resolve_public_key(self, key_id: str) -> TrustedKey | None:
        return self.public_key

    def resolve_private_key(self, key_id: str) -> Signer | None:
        return self.private_key


class _Verifier(HTTPMessageVerifier):
    """The library's verifier for one request, with our requirements on signatures.

    found: key id, nonce and creation time of the signature with our tag.
    """

    def __init__(self, trusted: Callable[[str, int], TrustedKey]) -> None:
        super().__init__(signature_algorithm=_Ed25519, key_resolver=None)
        self._trusted = trusted
        self.found: tuple[str, str, int] | None = None

    def validate_created_and_expires(
        self, sig_input: InnerList, max_age: timedelta | None = None
    ) -> None:
        """Check our requirements. The library calls this first for each signature with our tag.

        Its own check of the times is replaced, because it uses the library's clock.
        """
        if self.found is not None:
            raise MalformedRequestSignature(f"one signature tagged {TAG!r}", "several")
        key_id, nonce, created = _checked_parameters(sig_input)
        self.key_resolver = _OneKey(public_key=self._trusted(key_id, created))
        self.found = key_id, nonce, created

    def refusal_for(self, error: HTTPMessageSignaturesException) -> RequestRefused:
        """Return the refusal for `error`, which `verify` raised."""
        if self.found is None:
            return MalformedRequestSignature(f"one signature tagged {TAG!r}", str(error))
        key_id, _, _ = self.found
        return UnknownKey(key_id)


def _checked_parameters(sig_input: InnerList) -> tuple[str, str, int]:
    """Return key id, nonce and creation time. Raises: MalformedRequestSignature."""
    covered = [None if component.params else component.value for component in sig_input]
    if len(covered) != len(COVERED) or set(covered) != set(COVERED):
        raise MalformedRequestSignature(
            f"a signature over {', '.join(COVERED)}",
            f"one over {str(sig_input)[:_SHOWN_LENGTH_MAX]}",
        )
    parameters = sig_input.params
    if parameters.keys() != set(_PARAMETERS):
        raise MalformedRequestSignature(
            f"the parameters {', '.join(_PARAMETERS)}", ", ".join(parameters)[:_SHOWN_LENGTH_MAX]
        )
    key_id, nonce = parameters["keyid"], parameters["nonce"]
    _require_length("nonce", nonce, NONCE_LENGTH_MAX)
    _require_length("keyid", key_id, KEY_ID_LENGTH_MAX)
    return key_id, nonce, parameters["created"]


def _require_length(name: str, value: str, maximum: int) -> None:
    if not 1 <= len(value) <= maximum:
        raise MalformedRequestSignature(
            f"a {name} of 1 to {maximum} characters", f"one of {len(value)}"
        )


def _url(path_and_query: str) -> str:
    """Return a URL for the library. Its authority is arbitrary, because signatures do not cover it."""
    if not path_and_query.startswith("/") or "#" in path_and_query:
        raise MalformedRequestSignature(
            "a path that begins with '/', and its query", repr(path_and_query)
        )
    return f"http://any{path_and_query}"
