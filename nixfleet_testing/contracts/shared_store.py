"""The contract of a store that several control planes share: one leads at a time, and no other can commit.

Subclass `SharedStoreContract`, open parts in your store on a directory, and run pytest.
Source: docs/spec/leadership.md; docs/how-to/embedding.md, Several control planes on one store.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from nixfleet_control_plane.leadership.shared_store import (
    LogForked,
    LogHead,
    SharedStore,
    TakenStore,
)
from nixfleet_runtime.kernel.write_failures import OwnershipLost
from nixfleet_testing.contracts.event_loop import ASYNCIO
from nixfleet_testing.contracts.store_cases import LAST, ROWS, row

PATIENCE_SECONDS = 30.0


class SharedStoreContract(ABC):
    """What every `SharedStore` must do. Subclass it as `class TestMyShare(SharedStoreContract)`."""

    backend: ClassVar[str] = ASYNCIO
    """The event loop that your store runs in: "asyncio" or "trio"."""

    @abstractmethod
    def open_share(self, directory: Path) -> AbstractAsyncContextManager[SharedStore]:
        """Open a part in what is kept in `directory`, as one more process does. An empty one: a new store."""

    def run(
        self, directory: Path, test: Callable[[SharedStore, SharedStore], Awaitable[None]]
    ) -> None:
        """Run `test` with two parts in the store of `directory`."""

        async def run() -> None:
            with anyio.fail_after(PATIENCE_SECONDS):
                async with self.open_share(directory) as one, self.open_share(directory) as other:
                    await test(one, other)

        anyio.run(run, backend=self.backend)

    def test_a_new_store_is_free_and_opening_it_takes_nothing(self, tmp_path: Path) -> None:
        """Both see the same lease, of nobody."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            seen = await one.look()
            assert seen.is_free, f"expected the lease of a new store to be free, found {seen}"
            assert (await other.look()).epoch == seen.epoch
            assert seen.head_seq == 0

        self.run(tmp_path, test)

    def test_of_two_that_take_a_free_lease_one_gets_it(self, tmp_path: Path) -> None:
        """The epoch rises by the take, and the other one sees who has it."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            seen = await one.look()
            taken = [await one.take(seen, "https://one"), await other.take(seen, "https://other")]
            assert [it is not None for it in taken] == [True, False], f"found {taken}"
            assert taken[0] is not None
            now = await other.look()
            assert now.epoch == taken[0].epoch > seen.epoch
            assert now.url == "https://one"
            assert not now.is_free, "a lease that was just taken must not be free"

        self.run(tmp_path, test)

    def test_a_lease_that_is_held_is_not_taken(self, tmp_path: Path) -> None:
        """Also by one that has seen it as it is."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            await _taken(one)
            assert await other.take(await other.look(), "https://other") is None

        self.run(tmp_path, test)

    def test_who_was_replaced_commits_and_renews_nothing(self, tmp_path: Path) -> None:
        """Whatever it had begun; who replaced it goes on where the log ends."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            first = await _taken(one)
            await first.store.commit(ROWS)
            second = await _taken(other)
            assert second.head.seq == LAST, f"the take must return the log's end, found {second}"
            with pytest.raises(OwnershipLost):
                await first.store.commit([row(LAST + 1)])
            with pytest.raises(OwnershipLost):
                await one.renew()
            await second.store.commit([row(LAST + 1)])
            assert (await one.look()).head_seq == LAST + 1

        self.run(tmp_path, test)

    def test_a_lease_that_is_handed_over_is_free_at_once(self, tmp_path: Path) -> None:
        """And who gave it away commits nothing more."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            taken = await _taken(one)
            await taken.store.commit(ROWS)
            await one.hand_over()
            seen = await other.look()
            assert seen.is_free, f"found {seen}"
            assert await other.take(seen, "https://other") is not None

        self.run(tmp_path, test)

    def test_a_lease_ends_by_itself_unless_it_is_renewed(self, tmp_path: Path) -> None:
        """A commit renews it, and so does a renewal."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            taken = await _taken(one)
            renewals: tuple[Callable[[], Awaitable[None]], ...] = (
                partial(taken.store.commit, []),
                one.renew,
            )
            for renew in renewals:
                while (await other.look()).seconds_left > one.lease_seconds / 2:
                    await anyio.lowlevel.checkpoint()
                await renew()
                left = (await other.look()).seconds_left
                assert left > one.lease_seconds / 2, f"renewed, and {left} s are left"
            while not (await other.look()).is_free:
                await anyio.lowlevel.checkpoint()

        self.run(tmp_path, test)

    def test_a_follower_reads_what_was_committed_and_takes_nothing(self, tmp_path: Path) -> None:
        """From any row on; its snapshot is as of one moment."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            taken = await _taken(one)
            await taken.store.commit(ROWS)
            followed = await other.snapshot()
            assert followed.head.seq == followed.snapshot.head_seq == LAST
            whole = (await other.snapshot(from_log=True)).snapshot
            assert [logged.seq for logged in whole.tail] == list(range(1, LAST + 1))
            assert not whole.hosts, "without cached records"
            assert not await other.rows_after(followed.head)
            await taken.store.commit([row(LAST + 1)])
            assert [it.seq for it in await other.rows_after(followed.head)] == [LAST + 1]
            assert (await other.look()).epoch == taken.epoch

        self.run(tmp_path, test)

    def test_a_log_with_another_row_is_told_from_the_one_that_was_read(
        self, tmp_path: Path
    ) -> None:
        """By its hash, and also when the row is not there."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            taken = await _taken(one)
            await taken.store.commit(ROWS)
            for head in (LogHead(LAST, bytes(32)), LogHead(LAST + 1, bytes(32))):
                with pytest.raises(LogForked):
                    await other.rows_after(head)

        self.run(tmp_path, test)

    def test_the_doorbell_rings_when_who_has_it_leaves(self, tmp_path: Path) -> None:
        """Not before."""

        async def test(one: SharedStore, other: SharedStore) -> None:
            await one.rung()
            rung = anyio.Event()

            async def wait() -> None:
                await other.rung()
                rung.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await other.look()
                assert not rung.is_set(), "it rang while another one had it"
                await one.leave()
                await rung.wait()

        self.run(tmp_path, test)


async def _taken(share: SharedStore) -> TakenStore:
    """Take the lease, as from one whose sessions were seen to end."""
    taken = await share.take(evolve(await share.look(), is_abandoned=True), "https://some")
    assert taken is not None, "nobody else takes it"
    return taken
