"""What a store offers that several control planes share: the doorbell, the lease, the log for followers.

A store without it has one owner: the process that opened it. Source: docs/spec/leadership.md, The lease;
docs/how-to/embedding.md, Several control planes on one store.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

from nixfleet_control_plane.history.retention.keeper import LogKeeper
from nixfleet_control_plane.leadership.lease import LeaseSeen
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.store.store import Snapshot, Store
from nixfleet_proto.errors import NixfleetError


class LogForked(NixfleetError):
    """The log has no longer the rows that were read from it. Attributes: `where`, `expected`, `found`.

    A replica was promoted that lacked them, or a backup was restored.
    """

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(where, expected, found)
        self.where = where
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, which was read from it, found {self.found}"


@frozen
class LogHead:
    """The last row of a log, and the hash of the chain up to it."""

    seq: int
    hash: bytes = field(repr=bytes.hex)


@frozen
class FollowedSnapshot:
    """A snapshot, read without taking anything. head: of the log, as of the same moment."""

    snapshot: Snapshot
    head: LogHead


@frozen
class TakenStore:
    """What a take returns. store: commits under `epoch`, each of which renews the lease. head: the log's, for good."""

    store: Store
    epoch: int
    head: LogHead


class SharedStore(Protocol):
    """One control plane's part in a store that several share. One task calls each method at a time.

    Every call raises `Unreachable` when the store cannot be reached; it is then called again, and connects again.
    """

    @property
    def lease_seconds(self) -> float:
        """How long a lease runs from a take, a commit or a renewal. The same for all that share the store."""
        ...

    def when_broken(self, call: Callable[[], None]) -> None:
        """Have `call` called, in the event loop, when a session of this process ends that it did not end itself."""
        ...

    # For followers: nothing is taken, and nobody waits for it.

    async def look(self) -> LeaseSeen:
        """Return the lease as it is now."""
        ...

    async def snapshot(self, *, from_log: bool = False) -> FollowedSnapshot:
        """Return everything committed, as of one moment. from_log: without cached records, and with the whole log.

        Raises: DamagedRow, DecodeError.
        """
        ...

    async def rows_after(self, head: LogHead) -> Sequence[LogRow]:
        """Return the committed rows after `head`, oldest first: all of them, or as many as are read at once.

        Raises: LogForked, if the log has not this row there.
        """
        ...

    async def grown(self) -> None:
        """Return when the store says that the log has grown. It may miss that, or never say it."""
        ...

    async def rung(self) -> None:
        """Wait at the doorbell; return when no other session holds it. From then on this process holds it."""
        ...

    # For who takes the lease, and has it.

    async def take(self, seen: LeaseSeen, url: str) -> TakenStore | None:
        """Take the lease if its epoch is still the one of `seen`, and it is over or was seen abandoned.

        From then on no commit of an earlier holder succeeds. `None`: another one has it. url: where this process is
        reached, for those that ask a follower.
        """
        ...

    async def renew(self) -> None:
        """Renew the lease. Raises: OwnershipLost, if another one has taken it."""
        ...

    async def announce(self) -> None:
        """Tell followers that the log has grown."""
        ...

    async def hand_over(self) -> None:
        """End the lease and leave the doorbell, if this process still has them. No commit of it succeeds any more."""
        ...

    async def leave(self) -> None:
        """Leave the doorbell and give up what a take returned, without a word about the lease: it may be another's."""
        ...


@frozen
class OpenedShare:
    """A part in a shared store, and what reads beside it. keeper: as in `OpenedStore`."""

    shared: SharedStore
    queries: Queries
    keeper: LogKeeper | None = None


class Shares(Protocol):
    """What a `StoreOpener` may have as well, so that several control planes can run on its store."""

    def sharing(self) -> AbstractAsyncContextManager[OpenedShare]:
        """Open a part in the store for this process; close it at the end. Takes nothing. Raises: StoreUnusable."""
        ...

    async def lease(self) -> LeaseSeen:
        """Return the lease as it is now, without a part in the store. Writes nothing. Raises: NotReadable."""
        ...
