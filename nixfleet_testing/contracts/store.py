"""The contract of a store: after a crash it has every commit, complete and in order, and nothing else.

Subclass `StoreContract`, open your store on a directory, and run pytest. A crash is a store that is never
closed and another one opened where it was.
Source: docs/spec/runtimes.md, Store.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import asdict

from nixfleet_control_plane.messages.writes import PutDispatch, RemoveDispatch, RemoveHold, Write
from nixfleet_control_plane.store.store import BlockingStore, Store, StoredDispatch
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.full_disk import full_disk
from nixfleet_testing.contracts.histories import HOST, ROLLOUT, at
from nixfleet_testing.contracts.outside import ASYNCIO, StoreFromOutside, event_loop
from nixfleet_testing.contracts.restarts import Restarts
from nixfleet_testing.contracts.store_cases import (
    CASES,
    LAST,
    ROWS,
    Case,
    dispatch,
    hold,
    large_row,
    row,
)
from nixfleet_testing.contracts.threads import error_in_thread

BROKEN: dict[str, tuple[Write, ...]] = {
    "repeats the number of a log row": (row(LAST + 1), hold(LAST + 1), row(LAST)),
    "has a view name a log row that is not there": (
        row(LAST + 1),
        hold(LAST + 1),
        hold(99, ChannelScope("edge")),
    ),
}
"""Commits that must be refused as a whole; the fault is in the last write."""


class StoreContract(ABC):
    """What every `Store` must do. Subclass it as `class TestMyStore(StoreContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your store runs in: "asyncio" or "trio"."""

    @abstractmethod
    async def open_store(self, directory: Path) -> Store:
        """Return your store on what is kept in `directory`, as a new process does. An empty one: a new store.

        If its calls block, return `ThreadedStore(…)`.
        """

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Restarts[BlockingStore]]:
        """A directory, and the processes that open the store in it."""
        with event_loop(self.backend) as loop:

            def opened(directory: Path) -> BlockingStore:
                return StoreFromOutside(loop, partial(self.open_store, directory))

            stores = Restarts(opened, tmp_path)
            with closing(stores):
                yield stores

    # What was committed is there.

    def test_a_new_store_is_empty(self, stores: Restarts[BlockingStore]) -> None:
        """`load` returns nothing from a store without commits."""
        found = asdict(stores.start().load().in_memory(), recurse=False)
        assert not any(found.values()), f"a new store must be empty, yours has {found}"

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_what_was_committed_is_there_after_a_crash(
        self, case: Case, stores: Restarts[BlockingStore]
    ) -> None:
        """When `commit` returns, its writes are durable, and a start finds them as they were."""
        stores.start().commit([*ROWS, *case.writes])
        found = stores.crash().load()
        assert found.head_seq == LAST, (
            f"`commit` returned, and after a crash the log ends at row {found.head_seq}, expected {LAST}: "
            "make writes durable before you return"
        )
        kept = case.found_in(found)
        assert kept == case.expected, (
            f"what was committed is not what is read after a crash: {difference(case.expected, kept)}"
        )

    def test_what_was_committed_is_there_at_once(self, stores: Restarts[BlockingStore]) -> None:
        """The same store object reads its own commit."""
        store = stores.start()
        store.commit(ROWS)
        found = store.load().head_seq
        assert found == LAST, (
            f"committed up to row {LAST}, and the same store loads up to row {found}"
        )

    def test_commits_follow_each_other(self, stores: Restarts[BlockingStore]) -> None:
        """Each commit continues where the one before it ended, also after a restart."""
        store = stores.start()
        store.commit(ROWS[:3])
        store.commit(ROWS[3:4])
        store = stores.crash()
        store.commit(ROWS[4:])
        seqs = [logged.seq for logged in stores.crash().load().tail]
        assert seqs == list(range(1, LAST + 1)), f"rows 1 to {LAST} were committed, found {seqs}"

    def test_an_empty_commit_changes_nothing(self, stores: Restarts[BlockingStore]) -> None:
        """A commit without writes is not an error."""
        store = stores.start()
        store.commit(ROWS)
        before = store.load().in_memory()
        store.commit([])
        assert store.load().in_memory() == before, "a commit without writes changed the store"

    def test_closing_writes_nothing(self, stores: Restarts[BlockingStore]) -> None:
        """`close` only releases resources: the store is as after a crash."""
        stores.start().commit(ROWS)
        after_crash = stores.crash().load().in_memory()
        after_close = stores.restart().load().in_memory()
        assert after_close == after_crash, "`close` changed what is stored"

    # In order.

    def test_writes_are_carried_out_in_order(self, stores: Restarts[BlockingStore]) -> None:
        """The last write of a key in a commit decides."""
        put = PutDispatch(dispatch(), LAST, at(LAST))
        removed = RemoveDispatch(HOST, ROLLOUT)
        stores.start().commit([*ROWS, put, removed, put, hold(LAST), RemoveHold(*hold(1).hold.key)])
        found = stores.crash().load()
        assert found.dispatches == (StoredDispatch(dispatch(), at(LAST)),), (
            f"a dispatch was put, removed and put again in one commit, and the queue has {found.dispatches}: "
            "the writes were re-ordered"
        )
        assert found.holds == (), (
            f"a hold was put and then removed in one commit, and there is {found.holds}: the writes were re-ordered"
        )

    # All or none.

    @pytest.mark.parametrize("writes", BROKEN.values(), ids=BROKEN)
    def test_a_commit_that_cannot_be_is_refused(
        self, writes: tuple[Write, ...], stores: Restarts[BlockingStore]
    ) -> None:
        """The log has each number once, and every view says which row of the log it came from."""
        store = stores.start()
        store.commit(ROWS)
        assert _is_refused(store, writes), (
            f"expected your store to refuse {writes[-1]} after {LAST} rows; it accepted it"
        )

    @pytest.mark.parametrize("writes", BROKEN.values(), ids=BROKEN)
    def test_a_refused_commit_leaves_nothing_behind(
        self, writes: tuple[Write, ...], stores: Restarts[BlockingStore]
    ) -> None:
        """No write of a failed commit is there, neither at once nor after a crash."""
        store = stores.start()
        store.commit(ROWS)
        before = store.load().in_memory()
        if not _is_refused(store, writes):
            pytest.skip("this commit was not refused; another test says so")
        then = store.load().in_memory()
        for when, found in (("then", then), ("after a crash", stores.crash().load().in_memory())):
            assert found == before, (
                f"a commit failed, and {when} a part of it was there: rows {[r.seq for r in found.tail]}, "
                f"holds {found.holds}; put all writes of a commit into one transaction"
            )

    @pytest.mark.parametrize("writes", BROKEN.values(), ids=BROKEN)
    def test_the_commit_after_a_refused_one_succeeds(
        self, writes: tuple[Write, ...], stores: Restarts[BlockingStore]
    ) -> None:
        """A failed commit has no effect on the next one, which uses the same numbers."""
        store = stores.start()
        store.commit(ROWS)
        _is_refused(store, writes)
        try:
            store.commit([row(LAST + 1), hold(LAST + 1)])
        except Exception as error:
            raise AssertionError(
                f"after a commit that failed, the next one failed too: {error!r}; end the transaction"
            ) from error
        found = stores.crash().load()
        assert found.head_seq == LAST + 1, (
            f"committed up to row {LAST + 1} after a failure, found {found.head_seq} after a crash"
        )

    def test_a_commit_that_cannot_be_written_says_so(self, stores: Restarts[BlockingStore]) -> None:
        """On a full disk `commit` raises and changes nothing; the same commit succeeds when there is room."""
        store = stores.start()
        store.commit(ROWS)
        before = store.load().in_memory()
        writes: tuple[Write, ...] = (large_row(LAST + 1), hold(LAST + 1))
        with full_disk():
            is_refused = _is_refused(store, writes)
        found = stores.crash().load().in_memory()
        if not is_refused:
            assert found.head_seq == LAST + 1, (
                f"the disk was full, `commit` returned, and after a crash the log ends at row {found.head_seq}, "
                f"expected {LAST + 1}: raise what fails, never swallow it"
            )
            return
        assert found == before, "`commit` raised on a full disk, and a part of it was there"
        store = stores.crash()
        store.commit(writes)
        assert stores.crash().load().head_seq == LAST + 1, (
            "after a full disk the same commit returned, and is not there after a crash"
        )

    # Threads.

    def test_commits_come_from_any_thread(self, stores: Restarts[BlockingStore]) -> None:
        """A kernel commits in a worker thread, not always the same one, and never two at once."""
        store = stores.start()
        for writes in (ROWS[:4], ROWS[4:]):
            error = error_in_thread(partial(store.commit, writes))
            assert error is None, f"a commit from another thread raised {error!r}"
        found = error_in_thread(store.load)
        assert found is None, f"loading in another thread raised {found!r}"


def _is_refused(store: BlockingStore, writes: tuple[Write, ...]) -> bool:
    try:
        store.commit(writes)
    except Exception:
        return True
    return False
