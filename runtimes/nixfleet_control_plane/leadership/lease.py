"""The lease on a store: its times, and how a follower sees it. Data.

Source: docs/spec/leadership.md, The lease.
"""

from typing import Final

from attrs import frozen

LEASE_SECONDS: Final = 3.0
LEASE_SECONDS_LEAST: Final = 0.5
LEASE_SECONDS_MOST: Final = 60.0
_LOOK_SECONDS_MOST: Final = 0.25
_RUNG_LOOK_SECONDS: Final = 0.02


@frozen
class LeaseTerms:
    """The times of a lease. seconds: how long it runs from a renewal; each control plane on the store has the same."""

    seconds: float = LEASE_SECONDS

    @property
    def margin_seconds(self) -> float:
        """How long before its end a leader stops answering, for clocks that do not run equally fast."""
        return self.seconds / 10

    @property
    def renewal_seconds(self) -> float:
        """After how long without a commit a leader renews it."""
        return self.seconds / 3

    @property
    def look_seconds(self) -> float:
        """How often a follower looks at it."""
        return min(_LOOK_SECONDS_MOST, self.seconds / 10)

    @property
    def rung_look_seconds(self) -> float:
        """How often a follower looks right after the doorbell has rung."""
        return min(_RUNG_LOOK_SECONDS, self.look_seconds)


@frozen
class LeaseSeen:
    """The lease, as the store showed it.

    epoch: rises with each take. holder: drawn by each process; empty before the first take. url: where its holder is
    reached. seconds_left: by the store's clock; zero or less: it is over. head_seq: the last row of the log.
    is_abandoned: the store saw the holder's sessions end, all of them, since this process is connected.
    """

    epoch: int
    holder: str
    url: str
    seconds_left: float
    head_seq: int
    is_abandoned: bool = False

    @property
    def is_free(self) -> bool:
        """Whether it can be taken."""
        return self.is_abandoned or self.seconds_left <= 0
