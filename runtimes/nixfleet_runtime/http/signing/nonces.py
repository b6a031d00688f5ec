"""Remembers used nonces, so that each signed request is accepted once. In memory, bounded; the time is an argument.

Nonces are stored by the second in which their signature was created; a replay has to repeat both. A whole second is
forgotten as soon as nothing created in it can be fresh. Requests created in a forgotten second are never accepted
again, so setting the clock back allows no replay.
Source: docs/spec/trust.md, Request signatures; docs/explanation/decisions/network.md.
"""

import math
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from nixfleet_runtime.http.signing.refusal import (
    NonceMemoryFull,
    ReplayedNonce,
    SignedBeforeStart,
    SkewedClock,
)

NONCES_MAX: Final = (
    1_000_000  # about 150 MB; at 3,000 requests a second 200,000 to 360,000 are remembered
)
ENROLLMENTS_MAX: Final = 10_000
"""The maximum number of fresh enrollment requests that are remembered at once."""
_SKEWED_IN_A_ROW: Final = 3
_PERIODS_MAX: Final = 1_000  # the earliest two become one beyond that


@frozen
class EarlierRequests:
    """The requests that an earlier process may have accepted, which are therefore refused.

    signed_since: only those created earlier, whatever the clock does; `None`: no such bound.
    carried_out_at: times that are yet to come, at which a process with a clock that was ahead carried requests out.
    What was fresh at one of them is refused.
    """

    signed_since: datetime | None = None
    carried_out_at: tuple[datetime, ...] = ()


class NonceMemory:
    """The nonces of all requests that may still be fresh.

    window_seconds: the maximum difference between a signature's `created` and now, in either direction.
    started_at: signatures that were fresh then and were created earlier are refused, because an earlier process may
    have accepted them. A second that is partly earlier counts as earlier, so a new memory refuses requests signed in
    its first second. Signatures from long before are refused as stale. They are not refused for the start as well:
    after a start with a clock that was ahead, nothing would be accepted until that time had come.
    earlier: what is known of an earlier process. It may have accepted a request from a clock that is ahead, which looks
    new to this memory: a caller for whose requests that matters says until when.
    """

    def __init__(
        self,
        window_seconds: int,
        started_at: datetime,
        *,
        earlier: EarlierRequests | None = None,
        limit: int = NONCES_MAX,
    ) -> None:
        self.window_seconds = window_seconds
        self.limit = limit
        # Seconds in which a signature must not have been created: disjoint periods, each from first to last, in order.
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        start = math.ceil(started_at.timestamp())
        self._refuse(start - window_seconds, start - 1)
        if earlier is not None:
            if earlier.signed_since is not None:
                self._refuse(0, math.ceil(earlier.signed_since.timestamp()) - 1)
            for time in earlier.carried_out_at:
                second = int(time.timestamp())
                self._refuse(second - window_seconds, second + window_seconds + 1)
        self._by_second: dict[int, set[str]] = {}
        self._swept_to: int | None = None
        self._count = 0
        self._skewed_in_a_row = 0
        self._last_skew_seconds = 0

    def __len__(self) -> int:
        """The number of remembered nonces."""
        return self._count

    @property
    def clock_problem(self) -> str | None:
        """What is wrong with this clock or those of all who ask; `None` while requests are fresh.

        Only an indication: nobody's signature has been checked.
        """
        if self._skewed_in_a_row < _SKEWED_IN_A_ROW:
            return None
        direction = "behind" if self._last_skew_seconds > 0 else "ahead of"
        return (
            f"the last {self._skewed_in_a_row} requests were refused for their time: expected at most "
            f"{self.window_seconds} s of difference, found this clock {abs(self._last_skew_seconds)} s {direction} the "
            "last sender's; check this machine's clock"
        )

    def require_fresh(self, key_id: str, created: int, now: datetime) -> None:
        """Require that a signature created then is fresh. Raises: SkewedClock, SignedBeforeStart."""
        skew = created - int(now.timestamp())
        if abs(skew) > self.window_seconds:
            self._skewed_in_a_row += 1
            self._last_skew_seconds = skew
            raise SkewedClock(key_id, skew, self.window_seconds)
        period = bisect_right(self._firsts, created) - 1
        if period >= 0 and created <= self._lasts[period]:
            raise SignedBeforeStart(key_id, _time(created), _time(self._lasts[period] + 1))

    def take(self, key_id: str, nonce: str, created: int, now: datetime) -> None:
        """Mark `nonce` of `key_id` as used, for a request whose signature is valid.

        created: from the signature, in seconds since 1970. Nonces are per key: two keys may use the same one.
        Raises: SkewedClock, SignedBeforeStart, ReplayedNonce, NonceMemoryFull; the nonce is not marked then.
        """
        self.require_fresh(key_id, created, now)
        self._skewed_in_a_row = 0
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
            self._refuse(old, old)

    def _refuse(self, first: int, last: int) -> None:
        """Refuse signatures created from `first` to `last`, and what lies between them and a period nearby."""
        # Not one growing period: after a time with a clock that was ahead, all of the present would lie in it.
        begin = bisect_left(self._lasts, first - self.window_seconds)
        end = bisect_right(self._firsts, last + self.window_seconds)
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end], self._lasts[begin:end] = [first], [last]
        if len(self._firsts) > _PERIODS_MAX:
            del self._firsts[1], self._lasts[0]


def _time(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
