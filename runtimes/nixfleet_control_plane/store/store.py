"""The protocols of the control plane's store. One implementation ships: `sqlite_store`, behind `threaded_store`.

A store decides nothing. The mutator calls `commit`, once per batch and never twice at once.
Source: docs/spec/runtimes.md, Store.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from attrs import evolve, frozen

from nixfleet_control_plane.messages.key_ring import EnrolledHost, UsedNonce
from nixfleet_control_plane.messages.log_entry import LoggedEntry
from nixfleet_control_plane.messages.writes import Write
from nixfleet_proto.drafting import maker
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import DeferDispatch
from nixfleet_state_machine.planner.holds.hold import Hold
from nixfleet_state_machine.rollout.state import RolloutRecord


@frozen
class StoredHost:
    """A cached host record, current up to log row `event_log_seq`."""

    record: HostRolloutState
    event_log_seq: int


# Faster than the constructor: a start makes one for every entry of the log's tail.
stored_host = maker(StoredHost)


@frozen
class StoredFailure:
    """An outstanding failure of a probe's control."""

    rollout_id: RolloutId
    host_id: str
    probe_name: str
    control_id: str | None
    framework: str | None
    event_log_seq: int


@frozen
class StoredRefusal:
    """A fact that did not apply to the host's record. counts: whether the host was not resumed since."""

    rollout_id: RolloutId
    hostname: str
    seq: int
    reason: str
    counts: bool


@frozen
class StoredDispatch:
    """A dispatch in the queue.

    queued_at: since when its acknowledgement is awaited; `None`: an older version wrote it.
    """

    dispatch: Dispatch
    queued_at: datetime | None


@frozen
class Snapshot:
    """Everything that a start loads.

    artefacts: the entries in force, oldest first. rollouts: all that are not pruned or whose manifest is still in
    force, each with the time of its last transition. pruned: the ids of all pruned rollouts. cached_through: the log
    row up to which the cache of host records is complete. tail: every entry after that row. It may be the whole log,
    so it is read during iteration: iterate once, before any other call to the store. Iterating may raise DamagedRow.
    beginnings: by budget name, those that take a slot of a minute. deferred_since, quarantined_at: of each deferral and
    each quarantine, in their order; empty if the store does not say.
    """

    head_seq: int
    cached_through: int
    artefacts: tuple[LoggedEntry, ...]
    rollouts: tuple[tuple[RolloutRecord, datetime], ...]
    pruned: tuple[str, ...]
    hosts: tuple[StoredHost, ...]
    tail: Iterable[LoggedEntry]
    failures: tuple[StoredFailure, ...]
    quarantines: tuple[tuple[str, str], ...]
    dispatches: tuple[StoredDispatch, ...]
    deferrals: tuple[DeferDispatch, ...]
    beginnings: tuple[tuple[str, datetime], ...]
    holds: tuple[Hold, ...]
    warrants: tuple[SignedWarrant, ...]
    refused: tuple[StoredRefusal, ...]
    enrolled: tuple[EnrolledHost, ...]
    used_nonces: tuple[UsedNonce, ...]
    revoked: tuple[Revocation, ...]
    deferred_since: tuple[datetime, ...] = ()
    quarantined_at: tuple[datetime, ...] = ()

    def in_memory(self) -> "Snapshot":
        """Return a copy whose tail has been read, so that it can be stored and compared."""
        return evolve(self, tail=tuple(self.tail))


@runtime_checkable
class OwnedInTurn(Protocol):
    """What a store has as well that several processes can own, one after another."""

    @property
    def epoch(self) -> int:
        """A number that is higher for each owner than for all before it."""
        ...


class Store(Protocol):
    """Makes commits durable. One task uses it at a time. Embedded and networked stores have the same protocol."""

    async def load(self) -> Snapshot:
        """Return everything committed. Raises: DamagedRow."""
        ...

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, in order and atomically.

        When this returns, the writes survive a power failure. When it raises, nothing has changed, and the next call
        may succeed: an outcome that is not known is found out first. Three errors say more: Unreachable, nothing was
        written and nothing can be now; OwnershipLost, another process owns the data; OutcomeUnknown, it could not be
        found out. After the last two the store is not used again. A cancellation ends the wait at once; it comes only
        when a write takes too long, and the store is not used again.
        """
        ...

    async def close(self) -> None:
        """Release resources. Writes nothing. Returns within a few seconds, also if a write hangs."""
        ...


class BlockingStore(Protocol):
    """A store whose calls block: `ThreadedStore` makes it a `Store`. One thread uses it at a time.

    What each call does, and what its errors mean, is as in `Store`.
    """

    def load(self) -> Snapshot:
        """Return everything committed."""
        ...

    def commit(self, writes: Sequence[Write]) -> None:
        """Make all of `writes` durable, in order and atomically."""
        ...

    def close(self) -> None:
        """Release resources."""
        ...
