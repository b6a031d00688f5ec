"""The tokens of an auth callout: what a server asks, and what a control plane answers. Pure; `now` is an argument.

Only what is needed of JWTs for NATS: one algorithm, and no field of the token chooses it.
Source: docs/spec/nats.md, Who may connect; https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-26.md
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_nats.nkeys import Owner, is_nonce, key_of, nkey_of
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import Signer, is_signed_by
from nixfleet_proto.trust import TrustedKey

REQUEST_BYTES_MAX: Final = 64 * 1024
_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}


class CalloutMalformed(NixfleetError):
    """What came as a question of a server is none. Attributes: `expected`, `found`."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"


@frozen
class Connecting:
    """Who connects, as a server asks. A claim, but for `key`, which signed the server's nonce.

    server: to be named in the answer. user: the name that the server gave to the connection. key: `None` if the client
    gave none, or did not sign the nonce with it. name: the host that it says it is. prefix: the fleet that it
    looks for. client_id: of the connection at the server.
    """

    server: str
    user: str
    key: TrustedKey | None
    name: str
    prefix: str
    client_id: int
    address: str


@frozen
class Allowed:
    """What a connection may do: the subjects that it may publish on and subscribe to, and until when."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    until: datetime
    account: str
    subscriptions_max: int = 4


def read_question(token: bytes) -> Connecting:
    """Return who connects. The server signed the token with the key that the token names. Raises: CalloutMalformed."""
    claims = _claims_in(token)
    asked = _table(claims, "nats")
    options, client = _table(asked, "connect_opts"), _table(asked, "client_info")
    nonce, signature = (
        _text(asked, "request_nonce") or _text(client, "nonce"),
        _text(options, "sig"),
    )
    key = key_of(_text(options, "nkey"), Owner.USER)
    client_id = client.get("id")
    return Connecting(
        server=_text(_table(asked, "server_id"), "id"),
        user=_text(asked, "user_nkey"),
        key=key if key is not None and _is_proof(key, nonce, signature) else None,
        name=_text(options, "name"),
        prefix=_text(options, "auth_token"),
        client_id=client_id if isinstance(client_id, int) else 0,
        address=_text(client, "host"),
    )


def answer_allowing(
    asked: Connecting, name: str, allowed: Allowed, issuer: Signer, now: datetime
) -> bytes:
    """Return the answer that lets the connection in, under `name`."""
    permissions = {
        "pub": {"allow": [*allowed.publish]},
        "sub": {"allow": [*allowed.subscribe]},
        "subs": allowed.subscriptions_max,
        "data": -1,
        "payload": -1,
        "type": "user",
        "version": 2,
    }
    user = {
        "aud": allowed.account,
        "exp": int(allowed.until.timestamp()),
        "name": name,
        "sub": asked.user,
        "nats": permissions,
    }
    return _answer(asked, {"jwt": signed(user, issuer, now).decode()}, issuer, now)


def answer_refusing(asked: Connecting, reason: str, issuer: Signer, now: datetime) -> bytes:
    """Return the answer that refuses the connection; the reason is in the server's log."""
    return _answer(asked, {"error": reason}, issuer, now)


def signed(claims: Mapping[str, object], issuer: Signer, now: datetime) -> bytes:
    """Return a token with `claims`, signed by the account's key `issuer`."""
    whole = {
        **claims,
        "iss": nkey_of(issuer.public_key, Owner.ACCOUNT),
        "iat": int(now.timestamp()),
        "jti": "-",
    }
    body = _encoded(_json(_HEADER)) + b"." + _encoded(_json(whole))
    return body + b"." + _encoded(issuer.sign(body))


def _answer(
    asked: Connecting, answer: Mapping[str, object], issuer: Signer, now: datetime
) -> bytes:
    said = {**answer, "type": "authorization_response", "version": 2}
    return signed({"aud": asked.server, "sub": asked.user, "nats": said}, issuer, now)


def _is_proof(key: TrustedKey, nonce: str, signature: str) -> bool:
    try:
        return is_nonce(nonce) and is_signed_by(key, nonce.encode(), _decoded(signature))
    except (ValueError, binascii.Error):
        return False


def _claims_in(token: bytes) -> Mapping[str, object]:
    if len(token) > REQUEST_BYTES_MAX:
        raise CalloutMalformed(f"at most {REQUEST_BYTES_MAX} bytes", f"{len(token)}")
    body, _, signature = token.rpartition(b".")
    try:
        header, claims = (json.loads(_decoded(part.decode())) for part in body.split(b"."))
        is_ours = isinstance(header, dict) and header.get("alg") == _HEADER["alg"]
        found = _decoded(signature.decode())
    except (ValueError, RecursionError) as error:
        raise CalloutMalformed("a token of a server", "something else") from error
    if not is_ours or not isinstance(claims, dict):
        raise CalloutMalformed("a token of a server", "something else")
    issuer = key_of(_text(claims, "iss"), Owner.SERVER)
    if issuer is None or not is_signed_by(issuer, body, found):
        raise CalloutMalformed("a token that its server signed", "another signature")
    return claims


def _table(claims: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = claims.get(key)
    return found if isinstance(found, dict) else {}


def _text(claims: Mapping[str, object], key: str) -> str:
    found = claims.get(key)
    return found if isinstance(found, str) else ""


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
