"""Signed requests: what is accepted, and each way to be refused with its facts."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures.algorithms import ED25519
from http_message_signatures.resolvers import MappingKeyResolver
from http_message_signatures.signatures import HTTPMessageSigner, HTTPMessageVerifier
from starlette.datastructures import Headers

from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.our_form import TAG
from nixfleet_runtime.http.signing.refusal import (
    DigestMismatch,
    MalformedRequestSignature,
    NotSignedRequest,
    ReplayedNonce,
    RequestRefused,
    RevokedKey,
    SignedBeforeStart,
    SkewedClock,
    UnknownKey,
)
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request, verify_request

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
SEED = bytes(range(32))
KEY, STRANGER = SigningKey(SEED), SigningKey(bytes(32))
WEB = "host:web-01"
PATH = "/v1/agent/events?wait=60"
BODY = b'{"a":1}'
COVERED = ("@method", "@path", "@query", "content-digest")


class Server:
    """One side that is asked: a key ring of one host, and a memory of nonces."""

    def __init__(self) -> None:
        self.nonces = NonceMemory(60, NOW - timedelta(minutes=10))
        self.keys: Callable[[str], TrustedKey | None] = {WEB: KEY.public_key}.get

    def verify(
        self,
        headers: Mapping[str, str],
        method: str = "POST",
        path: str = PATH,
        body: bytes = BODY,
        now: datetime = NOW,
    ) -> str:
        return verify_request(method, path, headers, body, self.keys, self.nonces, now)

    def refusal(
        self,
        headers: Mapping[str, str],
        method: str = "POST",
        path: str = PATH,
        body: bytes = BODY,
        now: datetime = NOW,
    ) -> RequestRefused:
        with pytest.raises(RequestRefused) as refusal:
            self.verify(headers, method, path, body, now)
        return refusal.value


@pytest.fixture
def server() -> Server:
    return Server()


def signed(
    key: SigningKey = KEY, key_id: str = WEB, nonce: str = "n-1", now: datetime = NOW
) -> dict[str, str]:
    """The headers of the request that all tests are about."""
    return dict(sign_request(key, key_id, "POST", PATH, BODY, now, nonce))


def test_a_signed_request_carries_exactly_what_is_documented() -> None:
    """The form on the wire is fixed: other implementations sign and check against it."""
    assert signed() == {
        "Content-Digest": "sha-256=:AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=:",
        "Signature-Input": (
            'nixfleet=("@method" "@path" "@query" "content-digest");created=1778932800;'
            'keyid="host:web-01";alg="ed25519";nonce="n-1";tag="nixfleet-v1"'
        ),
        "Signature": (
            "nixfleet=:DdubQGbTGFQBHfqVJb25xRLCHJju6suh8j9jq7ElK4xS"
            "tU0oqEVV+fGLqgUo/A894NPD9WMVKGv6FC6Vv6RgBA==:"
        ),
    }


def test_a_signed_request_is_accepted_and_says_whose_it_is(server: Server) -> None:
    """A good signature is worth the id of the key that made it."""
    assert server.verify(signed()) == WEB


@pytest.mark.parametrize("path", ["/", "/v1/hosts", "/v1/rollouts/stable%40a1b2", "/a?b=c&d=%20"])
def test_a_request_without_body_or_query_is_accepted_too(server: Server, path: str) -> None:
    """The empty body has a digest, and a query that is not there is covered as such."""
    headers = sign_request(KEY, WEB, "GET", path, b"", NOW, new_nonce())

    assert server.verify(headers, "GET", path, b"") == WEB


def test_headers_are_found_whatever_the_case_of_their_names_and_whatever_else_is_there(
    server: Server,
) -> None:
    """Header names have no case, and headers that are not covered may be anything."""
    lower = {name.lower(): value for name, value in signed().items()}

    assert server.verify({"Host": "x", **lower, "date": "yesterday"}) == WEB


@pytest.mark.parametrize("missing", ["Signature", "Signature-Input", "Content-Digest"])
def test_a_request_that_lacks_a_signature_header_is_refused_as_not_signed(
    server: Server, missing: str
) -> None:
    """The refusal names the header that is missing."""
    headers = signed()
    del headers[missing]

    refusal = server.refusal(headers)

    assert isinstance(refusal, NotSignedRequest)
    assert refusal.missing == missing
    assert refusal.status == 401


def test_a_request_with_another_method_path_or_query_is_refused(server: Server) -> None:
    """A signature cannot be moved to another call."""
    for method, path in (
        ("PUT", PATH),
        ("POST", "/v1/agent/event-batches?wait=60"),
        ("POST", "/v1/agent/events?wait=61"),
        ("POST", "/v1/agent/events"),
        ("POST", "/v1/agent/events/?wait=60"),
    ):
        refusal = server.refusal(signed(), method, path)
        assert isinstance(refusal, UnknownKey), path
        assert refusal.key_id == WEB


def test_a_request_with_another_body_is_refused_with_both_digests(server: Server) -> None:
    """A body that is not the signed one is told from a signature that is not good."""
    refusal = server.refusal(signed(), body=b"{}")

    assert isinstance(refusal, DigestMismatch)
    assert refusal.found == "sha-256=:AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=:"
    assert refusal.expected == "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:"


def test_a_request_whose_digest_was_changed_with_its_body_is_refused(server: Server) -> None:
    """The digest is covered: whoever changes the body cannot put it right."""
    other = sign_request(STRANGER, WEB, "POST", PATH, b"{}", NOW, "n-1")
    headers = {**signed(), "Content-Digest": other["Content-Digest"]}

    assert isinstance(server.refusal(headers, body=b"{}"), UnknownKey)


def test_a_request_signed_by_another_key_under_a_known_id_is_refused(server: Server) -> None:
    """A key id is a claim, and the signature its proof."""
    assert isinstance(server.refusal(signed(STRANGER)), UnknownKey)


def test_a_request_of_an_unknown_key_is_refused(server: Server) -> None:
    """Who is not known is told so, with the id that was given."""
    refusal = server.refusal(signed(key_id="host:web-02"))

    assert isinstance(refusal, UnknownKey)
    assert refusal.key_id == "host:web-02"


def test_no_refusal_tells_whether_a_key_id_has_a_key(server: Server) -> None:
    """Without the key, an id that is known, one that is revoked and one that is nobody's are refused alike."""

    def keys(key_id: str) -> TrustedKey | None:
        if key_id == "host:revoked":
            raise RevokedKey(key_id, NOW, KEY.public_key)
        return {WEB: KEY.public_key}.get(key_id)

    server.keys = keys

    refused = {
        key_id: server.refusal(signed(STRANGER, key_id=key_id))
        for key_id in (WEB, "host:revoked", "host:nobody")
    }

    assert {type(refusal) for refusal in refused.values()} == {UnknownKey}
    assert len({str(it).replace(key_id, "") for key_id, it in refused.items()}) == 1


def test_who_has_a_revoked_key_learns_that_it_is_revoked(server: Server) -> None:
    """The signature proves that they have it."""

    def keys(key_id: str) -> TrustedKey | None:
        raise RevokedKey(key_id, NOW, KEY.public_key)

    server.keys = keys

    assert isinstance(server.refusal(signed()), RevokedKey)
    assert isinstance(server.refusal(signed(STRANGER)), UnknownKey)


@pytest.mark.parametrize("seconds", [-61, 61])
def test_a_request_from_a_clock_that_is_wrong_is_refused_with_the_skew(
    server: Server, seconds: int
) -> None:
    """The time is the argument's, and the refusal says by how much the clocks differ."""
    refusal = server.refusal(signed(now=NOW + timedelta(seconds=seconds)))

    assert isinstance(refusal, SkewedClock)
    assert refusal.skew_seconds == seconds


def test_a_request_that_is_not_fresh_is_refused_before_its_key_is_looked_up(server: Server) -> None:
    """Old requests in great numbers cost no cryptography."""
    late = NOW + timedelta(seconds=61)

    assert isinstance(server.refusal(signed(key_id="host:web-02"), now=late), SkewedClock)


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_request_from_a_clock_that_is_a_little_wrong_is_accepted(
    server: Server, seconds: int
) -> None:
    """The window is inclusive."""
    assert server.verify(signed(now=NOW + timedelta(seconds=seconds))) == WEB


def test_a_request_from_before_the_start_is_refused(server: Server) -> None:
    """A control plane that was restarted takes nothing that the one before it may have taken."""
    server.nonces = NonceMemory(60, NOW + timedelta(seconds=1))

    assert isinstance(server.refusal(signed()), SignedBeforeStart)


def test_a_request_sent_twice_is_refused_the_second_time(server: Server) -> None:
    """A replay, byte for byte, is recognised."""
    server.verify(signed())

    refusal = server.refusal(signed())

    assert isinstance(refusal, ReplayedNonce)
    assert refusal.nonce == "n-1"


def test_a_request_that_was_refused_has_not_used_up_its_nonce(server: Server) -> None:
    """Nobody can make a host's request void by sending a changed copy ahead of it."""
    server.refusal(signed(), body=b"{}")
    server.refusal(signed(), path="/")
    server.refusal(signed(STRANGER))

    assert server.verify(signed()) == WEB


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (' "content-digest"', "", "one over"),
        (' "@query"', "", "one over"),
        ('"@method" ', '"@method" "@authority" ', "one over"),
        ('"content-digest"', '"content-digest";sf', "one over"),
        (';nonce="n-1"', "", "created, keyid, alg, tag"),
        (";created=1778932800", "", "keyid, alg, nonce, tag"),
        (';alg="ed25519"', "", "created, keyid, nonce, tag"),
        (';keyid="host:web-01"', "", "created, alg, nonce, tag"),
        (";created=", ";expires=1778932900;created=", "expires, created, keyid, alg, nonce, tag"),
        ('nonce="n-1"', 'nonce=""', "one of 0"),
        ('nonce="n-1"', f'nonce="{"n" * 65}"', "one of 65"),
        ("host:web-01", "h" * 321, "one of 321"),
    ],
)
def test_a_signature_that_does_not_say_what_it_must_is_refused_before_it_is_checked(
    server: Server, old: str, new: str, found: str
) -> None:
    """What is covered and which parameters there are is fixed; the refusal says both sides of it."""
    headers = signed()
    headers["Signature-Input"] = headers["Signature-Input"].replace(old, new)

    refusal = server.refusal(headers)

    assert isinstance(refusal, MalformedRequestSignature)
    assert found in refusal.found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Signature-Input", ""),
        ("Signature-Input", "nixfleet=("),
        ("Signature-Input", 'nixfleet=("@method");created="now";tag="nixfleet-v1"'),
        ("Signature-Input", "nixfleet=1"),
        ("Signature-Input", "é"),
        ("Signature", "nixfleet=1"),
        ("Signature", "other=:AAAA:"),
        ("Signature", "nixfleet=:A"),
    ],
)
def test_signature_headers_that_make_no_sense_are_refused(
    server: Server, name: str, value: str
) -> None:
    """Whatever the headers hold, the answer is a refusal."""
    assert isinstance(server.refusal({**signed(), name: value}), MalformedRequestSignature)


def test_a_signature_with_another_tag_is_not_meant_for_us(server: Server) -> None:
    """A signature made for another purpose, or for another version of this, is not taken."""
    headers = signed()
    headers["Signature-Input"] = headers["Signature-Input"].replace(TAG, "nixfleet-v2")

    assert isinstance(server.refusal(headers), MalformedRequestSignature)


def test_a_signature_of_somebody_else_beside_ours_is_left_alone(server: Server) -> None:
    """A proxy may sign too, under its own label and tag, in header lines of its own."""
    proxy = [("signature-input", 'proxy=("@method");tag="proxy"'), ("signature", "proxy=:AAAA:")]
    lines = [(name.lower().encode(), value.encode()) for name, value in (*proxy, *signed().items())]

    assert server.verify(Headers(raw=lines)) == WEB


def test_two_signatures_with_our_tag_are_refused(server: Server) -> None:
    """One request is one host's or one operator's."""
    one, two = signed(), signed(nonce="n-2")
    both = {
        **one,
        "Signature": f"{one['Signature']}, {two['Signature'].replace('nixfleet=', 'again=')}",
        "Signature-Input": (
            f"{one['Signature-Input']}, {two['Signature-Input'].replace('nixfleet=', 'again=', 1)}"
        ),
    }

    refusal = server.refusal(both)

    assert isinstance(refusal, MalformedRequestSignature)
    assert refusal.found == "several"


def test_an_algorithm_other_than_the_keys_is_refused(server: Server) -> None:
    """The algorithm is the key's: a request cannot choose another."""
    headers = signed()
    headers["Signature-Input"] = headers["Signature-Input"].replace("ed25519", "hmac-sha256")

    assert isinstance(server.refusal(headers), UnknownKey)


@pytest.mark.parametrize("key", [TrustedKey("00"), TrustedKey(KEY.public_key.public_key, "ml-dsa")])
def test_a_key_that_cannot_be_used_refuses_the_request(server: Server, key: TrustedKey) -> None:
    """A broken entry of the ring lets nobody in and brings nothing down."""
    server.keys = {WEB: key}.get

    assert isinstance(server.refusal(signed()), UnknownKey)


@pytest.mark.parametrize(
    "path", ["", "*", "v1", "//", "http://other/v1", f"{PATH}#b", "/a b", "/ä"]
)
def test_a_path_that_cannot_stand_in_a_request_line_is_refused_or_not_the_signed_one(
    server: Server, path: str
) -> None:
    """Whatever a server hands on as the path, nothing but the signed one gets through."""
    server.refusal(signed(), path=path)


def test_a_request_of_ours_is_good_for_the_library_alone() -> None:
    """Any implementation of RFC 9421 can check what we sign."""
    headers = signed(now=datetime.now(UTC))
    public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEY.public_key.public_key))
    keys = MappingKeyResolver(public_keys={WEB: public_key}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=ED25519, key_resolver=keys)

    (result,) = verifier.verify(
        _Message("POST", f"https://cp.example{PATH}", headers),
        expect_tag=TAG,
        body=BODY,
        require_components=COVERED,
    )

    assert result.nonce == "n-1"


def test_a_request_signed_with_the_library_alone_is_accepted(server: Server) -> None:
    """Any implementation of RFC 9421 can sign for us, whatever its label and its order."""
    message = _Message("POST", f"https://cp.example{PATH}", {})
    keys = MappingKeyResolver(
        public_keys={}, private_keys={WEB: Ed25519PrivateKey.from_private_bytes(SEED)}
    )
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=keys).sign(
        message,
        key_id=WEB,
        created=NOW,
        nonce="n-1",
        tag=TAG,
        label="other",
        covered_component_ids=tuple(reversed(COVERED)),
        body=BODY,
    )

    assert server.verify(message.headers) == WEB


@frozen
class _Message:
    """A request as the library wants to see it."""

    method: str
    url: str
    headers: dict[str, str]
