"""A COMMIT whose answer is lost: the store finds out what became of it, and the control plane goes on."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from nixfleet_control_plane.messages.inputs import PauseScope
from nixfleet_control_plane.messages.writes import SetRecordsThrough
from nixfleet_control_plane.store.sqlite_store import AnotherWriter, SqliteStore
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown
from nixfleet_state_machine.planner.holds.scope import ChannelScope, HostScope
from nixfleet_testing.contracts.store_cases import LAST, ROWS, hold, row
from tests.engines.releases import START, Layout, Publisher
from tests.support.lossy_connection import Lost, lossy
from tests.support.served_control_plane import running_service

PAUSE = PauseScope(ChannelScope("stable"), "ada", "why")
PAUSE_ANOTHER = PauseScope(HostScope("web-01"), "ada", "why")


class LossyStore(SqliteStore):
    """A store on connections that can lose a COMMIT."""

    def __init__(self, path: Path) -> None:
        self.connection_type = kind = lossy()
        super().__init__(path)
        self.losing = kind.losing
        self.can_be_opened = True

    def _open(self) -> sqlite3.Connection:
        if not getattr(self, "can_be_opened", True):
            raise OSError("no such device")
        return super()._open()


@pytest.fixture
def store(scratch: Path) -> Iterator[LossyStore]:
    with closing(LossyStore(scratch / "control-plane.sqlite")) as store:
        store.commit(ROWS)
        yield store


def _head_seq(scratch: Path) -> int:
    with closing(SqliteStore(scratch / "control-plane.sqlite")) as after_a_crash:
        return after_a_crash.load().head_seq


def test_a_commit_whose_answer_is_lost_is_found_and_the_next_one_succeeds(
    store: LossyStore, scratch: Path
) -> None:
    """`commit` returns, because the writes are durable."""
    store.losing.append(Lost.ANSWER)
    store.commit([row(LAST + 1), hold(LAST + 1)])
    store.commit([row(LAST + 2)])

    assert store.load().head_seq == LAST + 2
    assert _head_seq(scratch) == LAST + 2


def test_a_commit_that_is_lost_with_its_answer_changes_nothing_and_the_same_one_succeeds(
    store: LossyStore, scratch: Path
) -> None:
    """`commit` raises what SQLite said, and nothing is there."""
    before = store.load().in_memory()
    store.losing.append(Lost.COMMIT)
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        store.commit([row(LAST + 1), hold(LAST + 1)])

    assert store.load().in_memory() == before
    store.commit([row(LAST + 1), hold(LAST + 1)])
    assert _head_seq(scratch) == LAST + 1


@pytest.mark.parametrize("lost", Lost)
def test_a_commit_of_cached_records_is_carried_out_again_when_its_answer_is_lost(
    store: LossyStore, lost: Lost
) -> None:
    """The log does not show whether it is there; a cached record can be written twice."""
    store.losing.append(lost)
    store.commit([SetRecordsThrough(LAST - 1)])

    assert store.load().cached_through == LAST - 1


def test_a_commit_that_is_lost_while_another_process_writes_is_refused_by_name(
    scratch: Path,
) -> None:
    """What the log ends with is neither the commit nor what was before it."""
    path = scratch / "control-plane.sqlite"

    class Overtaken(LossyStore):
        """Another process writes before this one opens the file again."""

        def _open(self) -> sqlite3.Connection:
            if path.exists():
                with closing(SqliteStore(path)) as other:
                    head_seq = other.load().head_seq
                    other.commit([row(head_seq + 1), row(head_seq + 2)])
            return super()._open()

    with closing(Overtaken(path)) as store:
        store.commit(ROWS)
        store.losing.append(Lost.COMMIT)
        with pytest.raises(AnotherWriter, match="another process writes to it"):
            store.commit([row(LAST + 1), hold(LAST + 1)])


def test_a_lost_answer_that_cannot_be_found_out_is_said(store: LossyStore) -> None:
    """Neither is claimed: that it is durable, nor that it is not."""
    store.losing.append(Lost.ANSWER)
    store.can_be_opened = False
    with pytest.raises(OutcomeUnknown, match=r"control-plane\.sqlite: .*no such device"):
        store.commit([row(LAST + 1)])


@pytest.mark.anyio
@pytest.mark.parametrize("lost", Lost)
async def test_a_control_plane_goes_on_after_a_lost_answer(scratch: Path, lost: Lost) -> None:
    """The poster gets the truth, and everything after it is served without a restart."""
    with closing(LossyStore(scratch / "of-service.sqlite")) as store:
        async with running_service(store) as service:
            await service.publish(Publisher().release(Layout(), "r1", START))
            before = store.load().head_seq
            store.losing.append(lost)
            try:
                await service.command(PAUSE)
                was_taken = True
            except WriteFailed:
                was_taken = False
            await service.command(PAUSE_ANOTHER)
            held = {str(each.scope) for each in service.holds()}

        assert was_taken is (lost is Lost.ANSWER)
        assert held == ({"stable", "host:web-01"} if was_taken else {"host:web-01"})
        assert store.load().head_seq >= before + len(held)
        assert {str(each.scope) for each in store.load().holds} == held


@pytest.mark.anyio
async def test_a_control_plane_whose_lost_answer_cannot_be_found_out_ends_by_name(
    scratch: Path,
) -> None:
    """Its posters are answered, and a start reads what is there."""
    failures: list[WriteFailed] = []

    async def lose(store: LossyStore) -> None:
        async with running_service(store) as service:
            await service.publish(Publisher().release(Layout(), "r1", START))
            store.losing.append(Lost.ANSWER)
            store.can_be_opened = False
            try:
                await service.command(PAUSE)
            except WriteFailed as error:
                failures.append(error)
            await anyio.sleep_forever()

    with (
        closing(LossyStore(scratch / "of-service.sqlite")) as store,
        pytest.raises(BaseExceptionGroup) as ended,
    ):
        await lose(store)

    assert ended.value.split(OutcomeUnknown)[1] is None
    assert ["could not be confirmed" in str(error) for error in failures] == [True]
