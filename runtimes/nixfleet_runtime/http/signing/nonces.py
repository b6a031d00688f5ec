"""Which nonces of requests were used: a signed request is good once. Memory alone, bounded, told the time.

A nonce is kept with the second in which, as its signature says, it was created; a replay has to repeat both. Whole
seconds are forgotten at once, as soon as nothing created in them can be fresh. What was created before the last
forgotten second is never taken again, so a clock that is set back opens no door.
Source: docs/spec/trust.md, Request signatures; docs/design/03-network.md.
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

NONCES_MAX: Final = 1_000_000  # about 150 MB; 3,000 requests a second come to 200,000 to 360,000


class NonceMemory:
    """The nonces of every request that may still be fresh.

    window_seconds: how far a signature's `created` may be from now, either way.
    started_at: nothing created before it is taken, since whoever ran before may have taken it. A whole second counts
    as before if any of it is, so in its first second a new memory refuses those who sign by the same clock.
    A request from a clock that is ahead may have been taken by the one before and look new to this one. A shell
    that cannot have that passes the time at which it started plus the window, and is deaf until then.
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
        """How many nonces are remembered."""
        return self._count

    def require_fresh(self, key_id: str, created: int, now: datetime) -> None:
        """Return if a signature of this time can be good now. Raises: SkewedClock, SignedBeforeStart."""
        skew = created - int(now.timestamp())
        if abs(skew) > self.window_seconds:
            raise SkewedClock(key_id, skew, self.window_seconds)
        if created < self._good_from:
            raise SignedBeforeStart(key_id, _time(created), _time(self._good_from))

    def take(self, key_id: str, nonce: str, created: int, now: datetime) -> None:
        """Use up `nonce` of `key_id`, from a request whose signature is good.

        created: seconds since 1970, as the signature says. A nonce is its key's own: two keys may use the same.
        Raises: SkewedClock, SignedBeforeStart, ReplayedNonce, NonceMemoryFull; then it is not used up.
        """
        self.require_fresh(key_id, created, now)
        second = int(now.timestamp())
        self._forget_before(second - self.window_seconds)
        entry = f"{key_id}\n{nonce}"  # neither can contain a line's end
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
