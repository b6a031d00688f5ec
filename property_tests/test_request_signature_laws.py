"""What holds for every signed request: our own reading of it and the library's come to the same.

A space in front of a header's value means nothing to HTTP and is not in our form, so the same request with one is
what the library makes of it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from attrs import astuple, evolve, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures.algorithms import ED25519
from http_message_signatures.digests import ContentDigest
from http_message_signatures.resolvers import MappingKeyResolver
from http_message_signatures.signatures import HTTPMessageSigner
from hypothesis import assume, event, given
from hypothesis import strategies as st

from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.headers import CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT
from nixfleet_runtime.http.signing.any_form import sign_with_library
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.our_form import (
    COVERED,
    LABEL,
    TAG,
    content_digest,
    form_of,
    signature_field,
)
from nixfleet_runtime.http.signing.refusal import RequestRefused
from nixfleet_runtime.http.signing.requests import sign_request, verify_request

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
SEED = bytes(range(32))
KEY, STRANGER = SigningKey(SEED), SigningKey(bytes(32))
BODY = b'{"a":1}'
KEY_IDS = ("host:web-01", "host:new", 'operator:O\'Hara, "al\\ice"')
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
TARGETS = st.from_regex(
    r"/([a-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*(\?([a-z&=/?+]|%20)*)?", fullmatch=True
)
KEYS: Mapping[str, TrustedKey] = {
    "host:web-01": KEY.public_key,
    KEY_IDS[2]: KEY.public_key,
    "host:odd": TrustedKey("00"),
}

PIECES = st.sampled_from([*'"\\();=,: -09aZé\t\x7f', "%2f", "/?", ", ", ";sf", ""])
# What random pieces would hardly ever come to: other spellings of the same, and what only looks like ours.
CHANGES = (
    ("created=", "created=0"),
    ("created=", "created=-"),
    ("created=", "created=99999999999999999"),
    ("nixfleet=", ""),
    ("nixfleet=", "other="),
    ("nixfleet=", "nixfleet=?1, nixfleet="),
    ('"@method" "@path"', '"@path" "@method"'),
    ('"@path"', '"@path";req'),
    ('" "', '"  "'),
    (";", "; "),
    (";keyid", ";expires=1778932900;keyid"),
    ('keyid="host:web-01"', 'keyid="host:odd"'),
    ('keyid="', 'keyid="\\"'),
    ('keyid="', f'keyid="{"k" * 310}'),
    ('nonce="', f'nonce="{"n" * 64}'),
    (";alg", ';nonce="first";alg'),
    ("ed25519", "hmac-sha256"),
    (TAG, "nixfleet-v2"),
    (f'"{TAG}"', f'"{TAG}", proxy=("@method");tag="proxy"'),
    (f'"{TAG}"', f'"{TAG}", proxy=("@method");tag="{TAG}"'),
    ("==:", ":"),
    ("=:", "=: "),
    ("==:", "==:, proxy=:AAAA:"),
    ("==:", "==:;of=1"),
    ("sha-256", "sha-512"),
    ("/", "//"),
    ("/", "/%zz"),
    ("?", "??"),
    ("?", "#"),
    ("POST", "post"),
    ("GET", "VERSION-CONTROL"),
)


@frozen
class Request:
    """A request with what is signed of it in four places, and its signature."""

    method: str
    target: str
    digest: str
    signature_input: str
    signature: str

    @property
    def headers(self) -> dict[str, str]:
        return {
            CONTENT_DIGEST: self.digest,
            SIGNATURE_INPUT: self.signature_input,
            SIGNATURE: self.signature,
        }


def signed_requests() -> st.SearchStrategy[Request]:
    """Requests as `sign_request` makes them, by keys that are known and one that is not."""
    return st.builds(
        _signed,
        st.sampled_from([KEY, KEY, KEY, STRANGER]),
        st.sampled_from(KEY_IDS),
        st.sampled_from(["GET", "POST", "DELETE"]),
        TARGETS,
        st.integers(-70, 70),
        st.text(PRINTABLE, min_size=1, max_size=64),
    )


def _signed(
    key: SigningKey, key_id: str, method: str, target: str, late_seconds: int, nonce: str
) -> Request:
    at = NOW - timedelta(seconds=late_seconds)
    headers = sign_request(key, key_id, method, target, BODY, at, nonce)
    said = (headers[name] for name in (CONTENT_DIGEST, SIGNATURE_INPUT, SIGNATURE))
    return Request(method, target, *said)


@st.composite
def altered_requests(draw: st.DrawFn) -> Request:
    """Signed requests, some spelt otherwise, with pieces of some taken out, put in or exchanged."""
    request = draw(signed_requests())
    for old, new in draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
        request = Request(*(text.replace(old, new, 1) for text in astuple(request)))
    for place in draw(st.lists(st.integers(0, 4), max_size=2)):
        texts = list(astuple(request))
        first = draw(st.integers(0, len(texts[place])))
        last = first + draw(st.sampled_from([0, 0, 1, 2, 11]))
        texts[place] = texts[place][:first] + draw(PIECES) + texts[place][last:]
        request = Request(*texts)
    return request


def outcome(request: Request, before: str = "") -> tuple[object, ...]:
    """Return what becomes of it: who made it, or what is said against it; and what is remembered of it then.

    before: what stands in front of the signature.
    """
    nonces = NonceMemory(60, NOW - timedelta(minutes=10))
    headers = {**request.headers, SIGNATURE: before + request.signature}
    try:
        who = verify_request(request.method, request.target, headers, BODY, KEYS.get, nonces, NOW)
    except RequestRefused as refused:
        return type(refused), str(refused), len(nonces)
    return who, _remembered(nonces, request, headers)


def _remembered(nonces: NonceMemory, request: Request, headers: Mapping[str, str]) -> str:
    try:
        verify_request(request.method, request.target, headers, BODY, KEYS.get, nonces, NOW)
    except RequestRefused as refused:
        return str(refused)
    raise AssertionError("it was taken twice")


def base_of(request: Request) -> bytes | None:
    """What our form says the signature is over."""
    form = form_of(request.method, request.target, request.digest, request.signature_input)
    return None if form is None else form.base


def require_agreement(request: Request) -> None:
    """Our reading and the library's must come to the same."""
    assert outcome(request) == outcome(request, before=" ")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_both_ways_agree_on_each_change(old: str, new: str, method: str) -> None:
    """Each change alone, with the signature from before it and with one from after."""
    good = _signed(KEY, "host:web-01", method, "/v1/a%2Fb?wait=60", 0, "n-1")
    changed = Request(*(text.replace(old, new, 1) for text in astuple(good)))

    require_agreement(changed)
    if base := base_of(changed):
        require_agreement(evolve(changed, signature=signature_field(KEY.sign(base))))


@given(altered_requests())
def test_both_ways_agree_on_what_was_altered(request: Request) -> None:
    """The same is accepted, and the same is said against the rest, whoever reads it."""
    event("in our form" if base_of(request) else "not in our form")

    require_agreement(request)


@given(altered_requests())
def test_both_ways_agree_on_what_was_altered_and_signed_after(request: Request) -> None:
    """Whatever our form recognises, the library would have had signed the very same bytes."""
    base = base_of(request)
    assume(base is not None)
    assert base is not None

    require_agreement(evolve(request, signature=signature_field(KEY.sign(base))))


@given(signed_requests())
def test_what_sign_request_writes_is_in_our_form_but_for_strings_with_escapes(
    request: Request,
) -> None:
    """Nearly every request can be read without a parser; a quote or a backslash in a name sends it to one."""
    is_plain = "\\" not in request.signature_input

    assert (base_of(request) is not None) is is_plain


@given(
    st.sampled_from(KEY_IDS),
    st.sampled_from(["GET", "POST"]),
    TARGETS,
    st.binary(max_size=40),
    st.integers(-100, 2**33).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.text(PRINTABLE, min_size=1, max_size=64),
)
def test_both_ways_sign_alike(
    key_id: str, method: str, target: str, body: bytes, now: datetime, nonce: str
) -> None:
    """The headers do not show who wrote them, and the base is the library's own."""
    ours = sign_request(KEY, key_id, method, target, body, now, nonce)

    assert ours == sign_with_library(KEY, key_id, method, target, body, now, nonce)
    form = form_of(method, target, ours[CONTENT_DIGEST], ours[SIGNATURE_INPUT])
    if form is not None:
        assert form.base == _library_base(key_id, method, target, body, now, nonce)


def _library_base(
    key_id: str, method: str, target: str, body: bytes, now: datetime, nonce: str
) -> bytes:
    keys = MappingKeyResolver(
        public_keys={}, private_keys={key_id: Ed25519PrivateKey.from_private_bytes(SEED)}
    )
    prepared = HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).prepare(
        _Message(method, f"https://cp.example{target}", {}),
        key_id=key_id,
        created=now,
        nonce=nonce,
        label=LABEL,
        tag=TAG,
        covered_component_ids=COVERED,
        body=body,
    )
    return prepared.signature_base


@given(st.binary(max_size=200))
def test_the_digest_is_the_librarys(body: bytes) -> None:
    """A body's digest is written as RFC 9530 has it."""
    assert content_digest(body) == ContentDigest.create(body)


@frozen
class _Message:
    """A request as the library wants to see it."""

    method: str
    url: str
    headers: dict[str, str]
