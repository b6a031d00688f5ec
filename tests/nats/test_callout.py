"""Who may connect: a key with its proof and its host's name, for its host's subjects alone."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_nats.callout import ENROLLING_MAX, Callout
from nixfleet_nats.claims import REQUEST_BYTES_MAX, CalloutMalformed
from nixfleet_nats.names import Names
from nixfleet_nats.nkeys import Owner, nkey_of, signed_nonce
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey, is_signed_by

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
SERVER, ISSUER = SigningKey(bytes(31) + b"s"), SigningKey(bytes(31) + b"i")
HOST_KEY, OTHER_KEY = SigningKey(bytes(31) + b"h"), SigningKey(bytes(31) + b"o")
HOST = "web.01"
RING = KeyRing(
    enrolled=FrozenMap({HOST: EnrolledHost(HOST, HOST_KEY.public_key, NOW - timedelta(days=1))})
)
NONCE = "PXoWU7zWAMt75FY"


def callout(ring: KeyRing = RING) -> Callout:
    return Callout(Names(), "FLEET", ISSUER, lambda: ring)


def token(
    claims: Mapping[str, object], key: SigningKey = SERVER, alg: str = "ed25519-nkey"
) -> bytes:
    parts = [json.dumps(it).encode() for it in ({"typ": "JWT", "alg": alg}, claims)]
    body = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return body + b"." + base64.urlsafe_b64encode(key.sign(body)).rstrip(b"=")


def question(
    key: SigningKey = HOST_KEY,
    name: str = HOST,
    *,
    proved_by: SigningKey | None = None,
    signed_over: str = NONCE,
    prefix: str = "nf",
) -> bytes:
    """Return what a server asks about a connection with `key`, whose owner signed a nonce."""
    proof = signed_nonce(signed_over, proved_by or key).decode()
    options = {
        "nkey": nkey_of(key.public_key, Owner.USER),
        "sig": proof,
        "name": name,
        "auth_token": prefix,
    }
    server = nkey_of(SERVER.public_key, Owner.SERVER)
    asked = {
        "server_id": {"id": server},
        "user_nkey": "UUSER",
        "client_info": {"id": 7, "host": "192.0.2.1", "nonce": NONCE},
        "connect_opts": options,
    }
    return token({"iss": server, "nats": asked})


def claims_in(answer: bytes | None) -> dict[str, object]:
    """Return the claims of a token that the issuer signed."""
    assert answer is not None, "it is another fleet's"
    body, _, signature = answer.rpartition(b".")
    padded = signature + b"=" * (-len(signature) % 4)
    assert is_signed_by(ISSUER.public_key, body, base64.urlsafe_b64decode(padded))
    text = body.partition(b".")[2]
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    return claims


def allowed_by(answer: bytes | None) -> tuple[str, list[str], list[str], int]:
    """Return the name, what may be published and subscribed to, and until when."""
    answered = claims_in(answer)["nats"]
    assert isinstance(answered, dict)
    user = claims_in(answered["jwt"].encode())
    permissions = user["nats"]
    assert isinstance(permissions, dict)
    assert user["aud"] == "FLEET"
    assert user["sub"] == "UUSER"
    name, until = user["name"], user["exp"]
    assert isinstance(name, str)
    assert isinstance(until, int)
    return name, permissions["pub"]["allow"], permissions["sub"]["allow"], until


def test_a_host_with_its_key_gets_its_subjects_and_no_other() -> None:
    """Its questions, its inbox, its dispatches; for an hour."""
    answer, session = callout().answer(question(), NOW)
    name, publish, subscribe, until = allowed_by(answer)
    nkey = nkey_of(HOST_KEY.public_key, Owner.USER)
    assert name == HOST
    assert publish == ["nf.up.web=2E01.*"]
    assert subscribe == [f"_INBOX.nf.{nkey}.*", "$KV.nf-desired-state.web=2E01"]
    assert until == int((NOW + timedelta(hours=1)).timestamp())
    assert session is not None
    assert (session.hostname, session.client_id) == (HOST, 7)


REVOKED = KeyRing(enrolled=RING.enrolled, revoked=FrozenMap({HOST: Revocation(HOST, NOW)}))


@pytest.mark.parametrize(
    ("asked", "ring"),
    [
        (question(OTHER_KEY), RING),
        (question(name="web-02"), RING),
        (question(name=""), RING),
        (question(name="x" * 10_000), RING),
        (question(), KeyRing()),
        (question(), REVOKED),
    ],
    ids=["another key", "another name", "no name", "a long name", "not enrolled", "revoked"],
)
def test_a_key_that_is_not_the_hosts_may_only_ask_to_be_enrolled(
    asked: bytes, ring: KeyRing
) -> None:
    """On the subject of the key, for a minute; the name that it gives opens nothing."""
    answer, session = callout(ring).answer(asked, NOW)
    name, publish, subscribe, until = allowed_by(answer)
    assert publish == [f"nf.enroll.{name}"]
    assert subscribe == [f"_INBOX.nf.{name}.*"]
    assert until == int((NOW + timedelta(minutes=1)).timestamp())
    assert session is not None
    assert session.hostname is None


@pytest.mark.parametrize(
    "asked",
    [
        question(proved_by=OTHER_KEY),
        question(signed_over="PXoWU7zWAMt75FX"),
        token(
            {
                "iss": nkey_of(SERVER.public_key, Owner.SERVER),
                "nats": {"connect_opts": {"name": HOST, "auth_token": "nf"}},
            }
        ),
    ],
    ids=["signed by another", "over another nonce", "no key at all"],
)
def test_a_key_without_its_proof_is_refused(asked: bytes) -> None:
    """Whoever knows a public key is not its owner."""
    answer, session = callout().answer(asked, NOW)
    refused = claims_in(answer)["nats"]
    assert isinstance(refused, dict)
    assert refused["error"] == "no proof of a key"
    assert "jwt" not in refused
    assert session is None


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"a.b.c",
        b"x" * (REQUEST_BYTES_MAX + 1),
        token({"iss": nkey_of(SERVER.public_key, Owner.SERVER)}, OTHER_KEY),
        token({"iss": nkey_of(SERVER.public_key, Owner.USER)}),
        token({"iss": nkey_of(SERVER.public_key, Owner.SERVER)}, alg="none"),
        token({"iss": 7}),
    ],
    ids=[
        "empty",
        "no token",
        "too long",
        "another signer",
        "no server",
        "no algorithm",
        "no issuer",
    ],
)
def test_what_no_server_signed_is_no_question(asked: bytes) -> None:
    """It is not answered at all."""
    with pytest.raises(CalloutMalformed) as refused:
        callout().answer(asked, NOW)
    assert refused.value.expected in str(refused.value)


def test_unknown_keys_are_let_in_so_many_a_minute() -> None:
    """Anyone can make a key; hosts come in all the same, and in the next minute others do."""
    deciding = callout()
    for _ in range(ENROLLING_MAX):
        assert deciding.answer(question(OTHER_KEY), NOW)[1] is not None
    assert deciding.answer(question(OTHER_KEY), NOW)[1] is None
    assert deciding.answer(question(), NOW)[1] is not None
    assert deciding.answer(question(OTHER_KEY), NOW + timedelta(minutes=1))[1] is not None


@pytest.mark.parametrize(
    ("before", "after"),
    [(RING, REVOKED), (RING, KeyRing()), (KeyRing(), RING)],
    ids=["revoked", "gone", "enrolled"],
)
def test_a_connection_whose_key_counts_for_another_now_is_not_current(
    before: KeyRing, after: KeyRing
) -> None:
    """A host that lost its key, and one that was unknown when it came."""
    ring = before
    deciding = Callout(Names(), "FLEET", ISSUER, lambda: ring)
    session = deciding.answer(question(), NOW)[1]
    assert session is not None
    assert deciding.is_current(session)
    ring = after
    assert not deciding.is_current(session)


def test_a_connection_to_another_fleet_is_left_to_that_fleet() -> None:
    """Its control plane is asked as well: an answer from here would let the host in as a stranger."""
    assert callout().answer(question(prefix="other"), NOW) == (None, None)
