"""Remembers used nonces, so that each signed request is accepted once. In memory, bounded; the time is an argument.

Nonces are stored by the second in which their signature was created; a replay has to repeat both. A whole second is
forgotten as soon as nothing created in it can be fresh. Requests created up to the last forgotten second are never
accepted again, so setting the clock back allows no replay.
Source: docs/spec/trust.md, Request signatures; docs/explanation/decisions/network.md.
"""

import math
from datetime import UTC, datetime
from typing import Final

from nixfleet_runtime.http.signing.refusal import (
    NonceMemoryFull,
    ReplayedNonce,
    SignedBeforeStart,
    SkewedClock,
)

NONCES_MAX: Final = (
    1_000_000  # about 150 MB; at 3,000 requests a second 200,000 to 360,000 are remembered
)


class NonceMemory:
    """The nonces of all requests that may still be fresh.

    window_seconds: the maximum difference between a signature's `created` and now, in either direction.
    started_at: signatures created earlier are refused, because an earlier process may have accepted them. A second that
    is partly earlier counts as earlier, so a new memory refuses requests signed in its first second.
    An earlier process may also have accepted a request from a clock that is ahead, which looks new to this memory. A
    caller that must exclude this passes its start time plus the window, and refuses all requests until then.
    """

    def __init__(
        self, window_seconds: int, started_at: datetime, *, limit: int = NONCES_MAX
    ) -> None:
        self.window_seconds = window_seconds
        self.limit = limit
        self._good_from = math.ceil(started_at.timestamp())
        self._by_second: dict[int, set[str]] = {}
        self._swept_to: int | None = None
        self._count = 0

    def __len__(self) -> int:
        """The number of remembered nonces."""
        return self._count

    def require_fresh(self, key_id: str, created: int, now: datetime) -> None:
        """Require that a signature created then is fresh. Raises: SkewedClock, SignedBeforeStart."""
        skew = created - int(now.timestamp())
        if abs(skew) > self.window_seconds:
            raise SkewedClock(key_id, skew, self.window_seconds)
        if created < self._good_from:
            raise SignedBeforeStart(key_id, _time(created), _time(self._good_from))

    def take(self, key_id: str, nonce: str, created: int, now: datetime) -> None:
        """Mark `nonce` of `key_id` as used, for a request whose signature is valid.

        created: from the signature, in seconds since 1970. Nonces are per key: two keys may use the same one.
        Raises: SkewedClock, SignedBeforeStart, ReplayedNonce, NonceMemoryFull; the nonce is not marked then.
        """
        self.require_fresh(key_id, created, now)
        second = int(now.timestamp())
        self._forget_before(second - self.window_seconds)
        entry = f"{key_id}\n{nonce}"  # neither can contain a line break
        if entry in self._by_second.get(created, ()):
            raise ReplayedNonce(key_id, nonce)
        if self._count >= self.limit:
            room_at = min(self._by_second) + self.window_seconds + 1
            raise NonceMemoryFull(self.limit, room_at - second)
        self._by_second.setdefault(created, set()).add(entry)
        self._count += 1

    def _forget_before(self, second: int) -> None:
        if second == self._swept_to:
            return
        self._swept_to = second
        for old in [created for created in self._by_second if created < second]:
            self._count -= len(self._by_second.pop(old))
            self._good_from = max(self._good_from, old + 1)


def _time(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
