"""Which key speaks for a host, which enrollments are due, and which lists are in force, from the log's rows alone.

Source: docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations; docs/spec/trust.md, What is put in force.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_proto.enrollment import BootstrapToken
from nixfleet_simulation.judge.model.host_model import Json

REVOCATIONS: Final = "revocations.json"
NONCES: Final = "bootstrap-nonces.json"
SKEW_MAX: Final = timedelta(seconds=60)


class MintedTokens:
    """Every token that operators ever minted, by nonce."""

    def __init__(self) -> None:
        self._by_nonce: dict[str, BootstrapToken] = {}

    def note(self, token: BootstrapToken) -> None:
        """An operator minted `token`."""
        self._by_nonce[token.nonce] = token

    def has(self, token: BootstrapToken) -> bool:
        """Return whether an operator minted exactly this token."""
        return self._by_nonce.get(token.nonce) == token


def token_of(written: Json) -> BootstrapToken:
    """Return the token that the log has as JSON."""
    return BootstrapToken(
        written["hostname"],
        written["expectedPubkeyFingerprint"],
        datetime.fromisoformat(written["issuedAt"]),
        datetime.fromisoformat(written["expiresAt"]),
        written["nonce"],
    )


@frozen
class _Enrolled:
    """A host's key from its latest enrollment, and when that was."""

    key: str
    at: datetime


class IdentityModel:
    """The identities of one log so far."""

    def __init__(self, minted: MintedTokens) -> None:
        self._minted = minted
        self._declared: dict[str, str] = {}
        self._enrolled: dict[str, _Enrolled] = {}
        self._revoked: dict[str, datetime] = {}
        self._used: dict[str, tuple[str, str]] = {}
        self._listed: dict[tuple[str, str], datetime] = {}
        self._signed_at: dict[str, datetime] = {}

    # Rows.

    def artefact_taken(self, name: str, body: Json) -> str | None:
        """Take an artefact that is put in force; return why it must not be, `None` if nothing is wrong with it."""
        signed_at = datetime.fromisoformat(body["meta"]["signedAt"])
        place = name if name in (REVOCATIONS, NONCES) else body.get("channel", "fleet")
        before = self._signed_at.get(place)
        if before is not None and signed_at < before:
            # A manifest and its fleet are one release; a fleet of an older one may follow for another channel.
            return None if place == "fleet" else f"{name} of {signed_at} replaces one of {before}"
        self._signed_at[place] = signed_at
        if name == REVOCATIONS:
            self._revoked = {}
            for each in body["revocations"]:
                self._revoked[each["hostname"]] = datetime.fromisoformat(each["notBefore"])
        elif name == NONCES:
            self._listed = {
                (each["nonce"], each["hostname"]): datetime.fromisoformat(each["expiresAt"])
                for each in body["nonces"]
            }
        elif place == "fleet":
            hosts: dict[str, Json] = body["hosts"]
            self._declared = {
                host: declared["pubkey"]
                for host, declared in hosts.items()
                if declared.get("pubkey") is not None
            }
        return None

    def enrolled(self, token: BootstrapToken, key: str, at: datetime) -> str | None:
        """Take a new enrollment; return why it must not be, `None` if nothing is wrong with it."""
        objection = next(self._objections(token, key, at), None)
        self._used[token.nonce] = token.hostname, key
        self._enrolled[token.hostname] = _Enrolled(key, at)
        return objection

    # Questions.

    def key_of(self, host: str) -> str | None:
        """Return the key that speaks for `host`, `None` if none does."""
        not_before, declared = self._revoked.get(host), self._declared.get(host)
        if not_before is None and declared is not None:
            return declared
        enrolled = self._enrolled.get(host)
        if enrolled is not None and (not_before is None or enrolled.at >= not_before):
            return enrolled.key
        return None

    def is_revoked(self, host: str) -> bool:
        """Return whether the key of `host` was revoked, and no other speaks for it."""
        return host in self._revoked and self.key_of(host) is None

    def may_enroll(self, token: BootstrapToken, key: str, at: datetime) -> bool:
        """Return whether the host of `token` may enroll, or has with the same token and key."""
        stands = self._used.get(token.nonce) == (token.hostname, key)
        if stands and self._enrolled[token.hostname].key == key and self._outlives(token.hostname):
            return True
        return next(self._objections(token, key, at), None) is None

    def _outlives(self, host: str) -> bool:
        not_before = self._revoked.get(host)
        return not_before is None or self._enrolled[host].at >= not_before

    def _objections(self, token: BootstrapToken, key: str, at: datetime) -> Iterator[str]:
        host = token.hostname
        if not self._minted.has(token):
            yield f"no operator minted the token of {host}"
        if token.issued_at - at > SKEW_MAX or at >= token.expires_at:
            yield f"the token of {host} is good from {token.issued_at} to {token.expires_at}"
        if hashlib.sha256(bytes.fromhex(key)).hexdigest() != token.expected_pubkey_fingerprint:
            yield f"the token of {host} is for another key"
        if token.nonce in self._used:
            yield f"the token of {host} was used before"
        listed = self._listed.get((token.nonce, host))
        if listed is None or at >= listed:
            yield f"the nonce of {host} is not listed"
        not_before, declared = self._revoked.get(host), self._declared.get(host)
        if not_before is not None and at < not_before:
            yield f"{host} is revoked until {not_before}"
        if not_before is None and declared is not None and declared != key:
            yield f"the fleet declares another key of {host}"
