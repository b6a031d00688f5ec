"""The contract of a store: after a crash it has every commit, complete and in order, and nothing else.

Subclass `StoreContract`, open your store on a directory, and run pytest. A crash is a store that is never
closed and another one opened where it was.
Source: docs/spec/runtimes.md, Store.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio
import pytest
from attrs import asdict

from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.writes import PutDispatch, RemoveDispatch, RemoveHold, Write
from nixfleet_control_plane.store.store import BlockingStore, Snapshot, Store, StoredDispatch
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.event_loop import ASYNCIO
from nixfleet_testing.contracts.full_disk import full_disk
from nixfleet_testing.contracts.histories import HOST, ROLLOUT, at
from nixfleet_testing.contracts.killed import end_here, killed_copies
from nixfleet_testing.contracts.outside import StoreFromOutside, event_loop
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
    signed_at,
)
from nixfleet_testing.contracts.threads import error_in_thread
from nixfleet_testing.contracts.unflushed import tells_unflushed, unflushed_files

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

    is_on_disk: ClassVar[bool] = True
    """Whether your store keeps what it has in files of `directory`. Without, three tests are skipped."""

    def lose_the_next_answer(self) -> None:
        """Let the next `commit` be carried out and its answer be lost, as by a connection that breaks.

        For a store on which that can be provoked; the test is skipped otherwise.
        """
        pytest.skip("this store has no way to lose an answer; see `lose_the_next_answer`")

    @pytest.fixture
    def stores(self, tmp_path: Path) -> Iterator[Restarts[BlockingStore]]:
        """A directory, and the processes that open the store in it."""
        with self.opened_in(tmp_path) as stores:
            yield stores

    @contextmanager
    def opened_in(self, directory: Path) -> Generator[Restarts[BlockingStore]]:
        """The processes that open the store in `directory`."""
        with event_loop(self.backend) as loop:

            def opened(directory: Path) -> BlockingStore:
                return StoreFromOutside(loop, partial(self.open_store, directory))

            stores = Restarts(opened, directory)
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

    def test_an_artefact_that_is_signed_again_is_read_as_it_was_each_time(
        self, stores: Restarts[BlockingStore]
    ) -> None:
        """A store may keep once what is repeated, and gives back what was signed, byte for byte."""
        store, signed = stores.start(), [signed_at(seq) for seq in range(LAST + 1, LAST + 4)]
        store.commit(ROWS)
        for each in signed:
            store.commit([row_of(each.seq, each.at, each.entry)])
        found = [*stores.crash().load().tail][LAST:]
        assert found == signed, (
            f"an artefact was signed again, and is not read as it was: {difference(signed, found)}"
        )

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

    def test_a_commit_whose_answer_is_lost_is_settled(
        self, stores: Restarts[BlockingStore]
    ) -> None:
        """`commit` finds out what became of it: it returns if the writes are there, and raises if they are not."""
        store = stores.start()
        store.commit(ROWS)
        self.lose_the_next_answer()
        is_refused = _is_refused(store, (row(LAST + 1), hold(LAST + 1)))
        expected = LAST + (not is_refused)
        # By the same process: one that starts takes the store over.
        try:
            store.commit([row(expected + 1)])
        except Exception as error:
            found = stores.crash().load().head_seq
            assert found == expected, _untrue(is_refused, found)
            raise AssertionError(
                f"after an answer that was lost, the next commit failed: {error!r}; go on from what is there"
            ) from error
        seqs = [logged.seq for logged in stores.crash().load().tail]
        assert seqs == list(range(1, expected + 2)), _untrue(is_refused, max(seqs) - 1)

    # The disk.

    def test_what_was_committed_is_on_the_disk(
        self, stores: Restarts[BlockingStore], tmp_path: Path
    ) -> None:
        """When `commit` returns, a power failure loses nothing: every file is flushed (`fsync`)."""
        if not (self.is_on_disk and tells_unflushed(tmp_path)):
            pytest.skip("this kernel or file system does not tell what is not on the disk yet")
        stores.start().commit([*ROWS, large_row(LAST + 1)])
        found = unflushed_files(tmp_path)
        assert found == [], (
            f"`commit` returned, and a part of {', '.join(found)} is not flushed: call `fsync` before you return"
        )

    def test_a_process_that_is_killed_in_a_write_leaves_all_of_it_or_nothing(
        self, tmp_path: Path
    ) -> None:
        """Wherever in a write it is killed, the next process reads the commit whole, or nothing of it."""
        if not self.is_on_disk:
            pytest.skip("this store is not on the disk")
        writes: tuple[Write, ...] = (large_row(LAST + 1), hold(LAST + 1))

        async def begin(directory: Path) -> None:
            store = await self.open_store(directory)
            await store.commit(writes)
            end_here()  # without closing anything

        home, done = tmp_path / "home", tmp_path / "done"
        possible = list[Snapshot]()
        for directory, commits in ((home, (ROWS,)), (done, (ROWS, writes))):
            directory.mkdir()
            with self.opened_in(directory) as stores:
                store = stores.start()
                for each in commits:
                    store.commit(each)
                possible.append(store.load().in_memory())
        for copy in killed_copies(
            home, tmp_path, lambda copy: anyio.run(begin, copy, backend=self.backend)
        ):
            try:
                with self.opened_in(copy) as stores:
                    found = stores.start().load().in_memory()
            except Exception as error:
                raise AssertionError(
                    f"a process was {copy.name} bytes of a file, and the next one cannot read what it left: {error!r}; "
                    "never write in place"
                ) from error
            assert found in possible, (
                f"a process was {copy.name} bytes of a file, and the next one finds a part of the commit: rows "
                f"{[logged.seq for logged in found.tail]}, holds {found.holds}"
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


def _untrue(is_refused: bool, found: int) -> str:
    return (
        f"the answer of a commit was lost, `commit` {'raised' if is_refused else 'returned'}, and the log ends at "
        f"row {found} of {LAST + 1}: look what is there before you say so"
    )


def _is_refused(store: BlockingStore, writes: tuple[Write, ...]) -> bool:
    try:
        store.commit(writes)
    except Exception:
        return True
    return False
