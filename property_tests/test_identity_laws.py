"""Laws of who is believed: tokens, signed requests, nonces, the key ring; for every value and every change of one."""

import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing, enrollment_objection
from nixfleet_proto.codec import (
    DecodeError,
    decode_bootstrap_nonces,
    decode_enroll_request,
    decode_revocations,
    decode_signed_token,
    encode_bootstrap_nonces,
    encode_enroll_request,
    encode_revocations,
    encode_signed_token,
)
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    BootstrapToken,
    EnrollRequest,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.fleet import FleetHost, FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import (
    SigningKey,
    VerifyError,
    fingerprint_of,
    sign_token,
    verify_token,
)
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.http.signing.key_id import (
    HostSubject,
    OperatorSubject,
    host_key_id,
    operator_key_id,
    subject_of,
)
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import (
    ReplayedNonce,
    RequestRefused,
    RevokedKey,
    SignedBeforeStart,
    SkewedClock,
)
from nixfleet_runtime.http.signing.requests import sign_request, verify_request
from property_tests.anything import CANONICAL_INTEGER_MAX, anything

NOW = datetime(2026, 5, 16, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CI, ORG_ROOT, HOST, OTHER = (SigningKey(bytes([number]) * 32) for number in range(4))
TRUST = TrustRoot(KeySlot(CI.public_key), KeySlot(ORG_ROOT.public_key))
HOSTNAMES = ("web-01", "web-02")
NONCES = ("n-1", "n-2", "n-3")
WINDOW = 60
PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)


@pytest.mark.parametrize(
    ("form", "encode", "decode"),
    [
        (SignedToken, encode_signed_token, decode_signed_token),
        (EnrollRequest, encode_enroll_request, decode_enroll_request),
        (BootstrapNonces, encode_bootstrap_nonces, decode_bootstrap_nonces),
        (Revocations, encode_revocations, decode_revocations),
    ],
)
@given(data=st.data())
def test_decoding_what_was_encoded_gives_the_same_value(
    form: type[Any],
    encode: Callable[[Any], bytes],
    decode: Callable[[bytes], Any],
    data: st.DataObject,
) -> None:
    """Nothing of an enrollment, a list of nonces or of revocations is lost on the way."""
    value = data.draw(anything(form, CANONICAL_INTEGER_MAX))

    assert decode(encode(value)) == value


def _tokens() -> SearchStrategy[BootstrapToken]:
    """Tokens that are good now, for the host's key."""
    return st.builds(
        BootstrapToken,
        hostname=st.text(string.ascii_lowercase + string.digits + ".-", min_size=1, max_size=20),
        expected_pubkey_fingerprint=st.just(fingerprint_of(HOST.public_key)),
        issued_at=st.timedeltas(timedelta(0), 2000 * DAY).map(lambda age: NOW - age),
        expires_at=st.timedeltas(HOUR, 2000 * DAY).map(lambda left: NOW + left),
        nonce=st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=24),
    )


@given(_tokens(), st.data())
def test_a_token_with_any_one_byte_changed_is_refused(
    token: BootstrapToken, data: st.DataObject
) -> None:
    """Whatever is changed in a token file, its names, its values or its signature, it is void."""
    text = encode_signed_token(sign_token(token, ORG_ROOT))
    at = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))

    assert verify_token(decode_signed_token(text), TRUST, NOW) == token
    with pytest.raises((DecodeError, VerifyError)):
        verify_token(decode_signed_token(text[:at] + bytes([byte]) + text[at + 1 :]), TRUST, NOW)


@frozen
class Request:
    """Everything of a request that its signature is for."""

    method: str
    path: str
    body: bytes


def _requests() -> SearchStrategy[Request]:
    segments = st.text(string.ascii_letters + string.digits + "-._~@:!$&'()*+,;=", max_size=8)
    paths = st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
    queries = st.just("") | st.text(string.ascii_letters + "/?=&", min_size=1, max_size=9).map(
        lambda query: f"?{query}"
    )
    return st.builds(
        Request,
        st.sampled_from(("GET", "POST", "PUT", "DELETE")),
        st.builds(str.__add__, paths, queries),
        st.binary(max_size=40),
    )


def _verify(request: Request, headers: dict[str, str], ring: KeyRing, nonces: NonceMemory) -> str:
    return verify_request(
        request.method, request.path, headers, request.body, ring.key_of, nonces, NOW
    )


def _signed(request: Request, hostname: str = "web-01", nonce: str = "n-1") -> dict[str, str]:
    key_id = host_key_id(hostname)
    return dict(sign_request(HOST, key_id, request.method, request.path, request.body, NOW, nonce))


def _ring(hostname: str = "web-01", enrolled_at: datetime = NOW) -> KeyRing:
    return KeyRing().with_host(EnrolledHost(hostname, HOST.public_key, enrolled_at))


def _memory() -> NonceMemory:
    return NonceMemory(WINDOW, NOW - HOUR)


@given(_requests(), st.text(min_size=1, max_size=20), st.text(PRINTABLE, min_size=1, max_size=64))
def test_any_request_of_any_host_with_any_nonce_is_accepted_once(
    request: Request, hostname: str, nonce: str
) -> None:
    """What is signed is accepted, whatever it consists of, and never again."""
    headers = _signed(request, hostname, nonce)
    ring, nonces = _ring(hostname), _memory()

    assert _verify(request, headers, ring, nonces) == host_key_id(hostname)
    with pytest.raises(ReplayedNonce):
        _verify(request, headers, ring, nonces)


@given(_requests(), _requests())
def test_a_signature_is_good_for_no_other_request(signed: Request, sent: Request) -> None:
    """Nothing of a request can be exchanged; an empty query and none are the same."""
    headers = _signed(signed)

    if _covered(sent) == _covered(signed):
        assert _verify(sent, headers, _ring(), _memory())
    else:
        with pytest.raises(RequestRefused):
            _verify(sent, headers, _ring(), _memory())


@given(_requests(), st.sampled_from(("Signature-Input", "Content-Digest")), st.data())
def test_a_signed_request_with_any_one_character_of_its_headers_changed_is_refused(
    request: Request, name: str, data: st.DataObject
) -> None:
    """What a signature says of itself is signed as well."""
    headers = _signed(request)
    headers[name] = _with_one_changed(headers[name], data)

    with pytest.raises(RequestRefused):
        _verify(request, headers, _ring(), _memory())


@given(_requests(), st.data())
def test_a_replay_with_its_signature_written_in_another_way_is_refused(
    request: Request, data: st.DataObject
) -> None:
    """Base64 has bits that mean nothing: a copy that differs in them alone is still a replay."""
    headers, nonces = _signed(request), _memory()
    _verify(request, headers, _ring(), nonces)
    headers["Signature"] = _with_one_changed(headers["Signature"], data)

    with pytest.raises(RequestRefused):
        _verify(request, headers, _ring(), nonces)


def _covered(request: Request) -> tuple[str, str, str, bytes]:
    path, _, query = request.path.partition("?")
    return request.method, path, query, request.body


def _with_one_changed(text: str, data: st.DataObject) -> str:
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda other: other != text[at]))
    return text[:at] + other + text[at + 1 :]


@frozen
class Take:
    """A nonce comes, created `created` seconds after the start, when the clock says `clock`."""

    nonce: str
    created: int
    clock: int


def _takes(clock: SearchStrategy[int]) -> SearchStrategy[Take]:
    skews = st.sampled_from((-WINDOW - 1, -WINDOW, -1, 0, 0, 1, WINDOW, WINDOW + 1))
    return st.builds(
        lambda nonce, skew, clock: Take(nonce, clock + skew, clock),
        st.sampled_from(NONCES),
        skews,
        clock,
    )


CLOCKS = st.sampled_from((0, 1, 30, 59, 60, 61, 90, 119, 120, 121, 122, 180, 400, 10**8))


def _take(memory: NonceMemory, take: Take) -> bool:
    now = NOW + timedelta(seconds=take.clock)
    try:
        memory.take("host:web-01", take.nonce, int(NOW.timestamp()) + take.created, now)
    except (ReplayedNonce, SkewedClock, SignedBeforeStart):
        return False
    return True


@given(st.lists(_takes(CLOCKS), max_size=30))
def test_no_nonce_is_ever_taken_twice_whatever_the_clock_does(takes: list[Take]) -> None:
    """A clock that jumps, ahead or back, makes no replay possible."""
    memory = NonceMemory(WINDOW, NOW)
    taken = [(take.nonce, take.created) for take in takes if _take(memory, take)]

    assert len(taken) == len(set(taken))


@given(st.lists(_takes(CLOCKS), max_size=30))
def test_every_new_and_fresh_nonce_is_taken_while_the_clock_does_not_go_back(
    takes: list[Take],
) -> None:
    """Nobody is refused without a reason, and nothing is remembered for longer than it can come again."""
    memory = NonceMemory(WINDOW, NOW)
    seen: set[tuple[str, int]] = set()
    for take in sorted(takes, key=lambda take: take.clock):
        is_fresh = abs(take.created - take.clock) <= WINDOW and take.created >= 0
        is_new = (take.nonce, take.created) not in seen

        assert _take(memory, take) is (is_fresh and is_new)
        if is_fresh:
            seen.add((take.nonce, take.created))
            remembered = {entry for entry in seen if entry[1] >= take.clock - WINDOW}
            assert len(memory) == len(remembered)


@given(st.text(max_size=20))
def test_a_key_id_stands_for_the_name_it_was_made_of(name: str) -> None:
    """Any name can be in a key id, in ASCII that a header can carry, and no two share one."""
    host, operator = host_key_id(name), operator_key_id(name)

    assert subject_of(host) == HostSubject(name)
    assert subject_of(operator) == OperatorSubject(name)
    assert host.isascii()
    assert host.isprintable()


SECONDS = st.integers(-3, 3).map(lambda seconds: NOW + timedelta(seconds=seconds))


@given(st.none() | SECONDS, st.booleans(), st.lists(SECONDS, max_size=3))
def test_a_revoked_key_is_refused_from_the_moment_on_at_which_the_ring_knows(
    enrolled_at: datetime | None, declared: bool, not_before: list[datetime]
) -> None:
    """No key of before the latest revocation signs anything any more, and every key of after it does."""
    ring = KeyRing() if enrolled_at is None else _ring(enrolled_at=enrolled_at)
    if declared:
        hosts = FrozenMap({"web-01": FleetHost("stable", pubkey=OTHER.public_key.public_key)})
        nothing = (FrozenMap[str, Any](),) * 3
        ring = ring.with_fleet(FleetResolved(hosts, *nothing, Meta(NOW)))
    before = _key_of(ring)
    revoked = ring.with_revocations(
        Revocations(tuple(Revocation("web-01", at) for at in not_before), Meta(NOW))
    )

    if declared:
        assert before == OTHER.public_key
    elif enrolled_at is not None:
        assert before == HOST.public_key
    stands = enrolled_at is not None and all(enrolled_at >= at for at in not_before)
    if not not_before:
        assert _key_of(revoked) == before
    elif stands:
        assert _key_of(revoked) == HOST.public_key
    elif before is None:
        assert _key_of(revoked) is None
    else:
        with pytest.raises(RevokedKey):
            _key_of(revoked)


def _key_of(ring: KeyRing) -> object:
    return ring.key_of(host_key_id("web-01"))


@frozen
class Attempt:
    """A host enrolls with its own key, or with one that the token is not made out to."""

    hostname: str
    nonce: str
    key: SigningKey
    issuer: SigningKey


ATTEMPTS = st.lists(
    st.builds(
        Attempt,
        st.sampled_from(HOSTNAMES),
        st.sampled_from(NONCES),
        st.sampled_from((HOST, HOST, OTHER)),
        st.sampled_from((ORG_ROOT, ORG_ROOT, CI)),
    ),
    max_size=12,
)
LISTS = st.lists(
    st.builds(
        BootstrapNonce,
        st.sampled_from(NONCES),
        st.sampled_from(HOSTNAMES),
        st.sampled_from((NOW, NOW + HOUR)),
    ),
    unique_by=lambda listed: (listed.nonce, listed.hostname),
    max_size=4,
).map(lambda listed: BootstrapNonces(tuple(listed), Meta(NOW)))


@given(ATTEMPTS, LISTS)
def test_a_listed_nonce_lets_its_host_in_once_and_nobody_else(
    attempts: list[Attempt], nonces: BootstrapNonces
) -> None:
    """Who may enroll is exactly: a good token, its own key, a nonce that is listed for the host, still good, unused."""
    used: set[str] = set()
    for attempt in attempts:
        token = BootstrapToken(
            attempt.hostname,
            fingerprint_of(HOST.public_key),
            NOW - HOUR,
            NOW + HOUR,
            attempt.nonce,
        )
        objection = enrollment_objection(
            EnrollRequest(sign_token(token, attempt.issuer), attempt.key.public_key.public_key),
            attempt.key.public_key,
            ring=KeyRing(),
            nonces=nonces,
            used_nonces=used,
            trust=TRUST,
            now=NOW,
        )
        listed = BootstrapNonce(attempt.nonce, attempt.hostname, NOW + HOUR)
        assert (objection is None) is (
            attempt.issuer is ORG_ROOT
            and attempt.key is HOST
            and listed in nonces.nonces
            and attempt.nonce not in used
        )
        if objection is None:
            used.add(attempt.nonce)
