"""Answers a server that asks who may connect: a host with its key, under its name and for its subjects alone.

A key that is no host's may do one thing, which is to ask to be enrolled. The server proved who asks (a signature over
its nonce), and the key ring says whose key it is; a name that a client gives is compared with it.
Source: docs/spec/nats.md, Who may connect.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from attrs import define, frozen

from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_nats.claims import (
    Allowed,
    Connecting,
    answer_allowing,
    answer_refusing,
    read_question,
)
from nixfleet_nats.names import Names
from nixfleet_nats.nkeys import Owner, nkey_of
from nixfleet_proto.signing import Signer
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.refusal import RequestRefused

SESSION: Final = timedelta(hours=1)
"""How long a host's connection lasts before the server asks again."""
ENROLLING: Final = timedelta(minutes=1)
ENROLLING_MAX: Final = 600
"""How many keys that are not known may connect in one minute: anyone can make a key."""
NAME_LENGTH_MAX: Final = 320
_log = logging.getLogger(__name__)


@frozen
class Session:
    """A connection that was let in. hostname: `None` for one that may only enroll. name: what it called itself."""

    server: str
    client_id: int
    hostname: str | None
    name: str
    key: TrustedKey


@define
class _Room:
    """How many may still come in a minute."""

    minute: int = -1
    left: int = 0

    def takes(self, now: datetime) -> bool:
        minute = int(now.timestamp()) // 60
        if minute != self.minute:
            self.minute, self.left = minute, ENROLLING_MAX
        self.left -= 1
        return self.left >= 0


class Callout:
    """Decides who may connect. issuer: the key of the account. ring: returns the keys in force."""

    def __init__(
        self, names: Names, account: str, issuer: Signer, ring: Callable[[], KeyRing]
    ) -> None:
        self._names = names
        self._account = account
        self._issuer = issuer
        self._ring = ring
        self._room = _Room()

    def answer(self, question: bytes, now: datetime) -> tuple[bytes | None, Session | None]:
        """Return the answer to a server's question, and who was let in. Raises: CalloutMalformed.

        The answer is `None` for a connection to another fleet of the account, whose control plane gives one.
        """
        asked = read_question(question)
        if asked.prefix != self._names.prefix:
            return None, None
        if asked.key is None:
            return self._refuse(asked, "no proof of a key", now), None
        nkey = nkey_of(asked.key, Owner.USER)
        inbox = f"{self._names.inbox(nkey)}.*"
        session = Session(
            asked.server,
            asked.client_id,
            self._hostname(asked.name, asked.key),
            asked.name,
            asked.key,
        )
        if session.hostname is not None:
            allowed = Allowed(
                [self._names.all_up_of(session.hostname)],
                [inbox, self._names.desired_state(session.hostname)],
                now + SESSION,
                self._account,
            )
            return answer_allowing(asked, session.hostname, allowed, self._issuer, now), session
        if not self._room.takes(now):
            return self._refuse(asked, "too many keys that are not known", now), None
        allowed = Allowed([self._names.enroll(nkey)], [inbox], now + ENROLLING, self._account)
        return answer_allowing(asked, nkey, allowed, self._issuer, now), session

    def _refuse(self, asked: Connecting, reason: str, now: datetime) -> bytes:
        _log.warning("NATS: a connection from %s was refused: %s", asked.address[:80], reason)
        return answer_refusing(asked, reason, self._issuer, now)

    def is_current(self, session: Session) -> bool:
        """Return whether the connection would be let in as it was: the host still has this key, or still has none."""
        return self._hostname(session.name, session.key) == session.hostname

    def _hostname(self, name: str, key: TrustedKey) -> str | None:
        """Return the host whose key it is, if it calls itself so; `None`: the key is no host's."""
        if not name or len(name) > NAME_LENGTH_MAX:
            return None
        try:
            known = self._ring().key_of(host_key_id(name))
        except RequestRefused:  # revoked
            return None
        return name if known is not None and known == key else None
