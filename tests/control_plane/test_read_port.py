"""The read port: both implementations answer alike, errors are named, and the service runs under trio too."""

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from nixfleet_control_plane.history.rebuild import ChainReport
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.mirrored_queries import MirroredQueries
from nixfleet_control_plane.reading.queries import NotReadable, Queries
from nixfleet_control_plane.reading.sqlite_queries import (
    NeedsAsyncio,
    SqliteQueries,
    one_moment,
)
from nixfleet_control_plane.store.queries import Query, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from tests.engines.releases import START, Layout, Publisher
from tests.engines.small_fleet import SmallFleet
from tests.engines.story import STEPS, Story
from tests.support.served_control_plane import running_service

ROLLOUT = RolloutId("stable@r1")
QUESTIONS: dict[str, Callable[[Queries], Awaitable[object]]] = {
    "rollouts": lambda it: it.rollouts(),
    "hosts": lambda it: it.hosts(),
    "deferrals": lambda it: it.deferrals(),
    "quarantines": lambda it: it.quarantines(),
    "a page of the log": lambda it: it.log_rows(ROLLOUT, after_seq=3, limit=5),
    "a page of the whole log": lambda it: it.log_rows(None, after_seq=3, limit=5),
    "a host that left": lambda it: it.left_at(ROLLOUT, "web-01"),
    "rows about a host": lambda it: it.host_rows(ROLLOUT, "web-01", limit=7),
    "why a host waits": lambda it: it.waiting_of("web-02"),
    "commands": lambda it: it.last_commands(1_000),
    "commands of the last rows": lambda it: it.last_commands(10),
    "refused artefacts": lambda it: it.refused_artefacts(),
    "the chain": lambda it: _chain(it),
    "where the log begins": lambda it: it.log_start(),
}


async def _chain(queries: Queries) -> ChainReport:
    """Every field but whether the store keeps the chain: a mirror computes it."""
    return evolve(await queries.verify(), is_kept=False)


@pytest.fixture
def eventful(story: Story) -> Path:
    """A database of a fleet that has lived through much."""
    for step in STEPS[:40]:
        step(story)
    return story.control_plane.database


@pytest.mark.anyio
async def test_the_mirror_of_a_log_answers_as_its_database(eventful: Path, scratch: Path) -> None:
    """Every question of operators, of a log that is read in portions."""

    async def rows_after(seq: int) -> Sequence[LogRow]:
        with closing(open_for_reading(eventful)) as connection:
            return list(read_log(connection, seq))[:50]

    directory = scratch / "mirror"
    directory.mkdir()
    database = SqliteQueries(eventful)
    with closing(MirroredQueries(rows_after, directory)) as mirror:
        last, head = -1, 0
        while head != last:  # each question reads another portion
            last, head = head, (await mirror.status()).head_seq
        for question, ask in QUESTIONS.items():
            assert await ask(mirror) == await ask(database), question
        assert (await mirror.rebuild()).differences == ()


ASTRAY: dict[str, Callable[[Sequence[LogRow]], Sequence[LogRow]]] = {
    "a row is missing": lambda rows: [*rows[:5], *rows[6:]],
    "a row is there twice": lambda rows: [*rows[:5], *rows[4:]],
    "the first row is missing": lambda rows: rows[1:],
    "a row is damaged": lambda rows: [*rows[:5], rows[5]._replace(payload="{"), *rows[6:]],
}


@pytest.mark.anyio
@pytest.mark.parametrize("how", ASTRAY)
async def test_a_log_that_is_read_astray_once_is_mirrored_whole_afterwards(
    how: str, eventful: Path, scratch: Path
) -> None:
    """The question is refused by name, and nothing of the wrong rows stays in the mirror."""
    is_astray = True

    async def rows_after(seq: int) -> Sequence[LogRow]:
        with closing(open_for_reading(eventful)) as connection:
            rows = list(read_log(connection, seq))
        return ASTRAY[how](rows) if is_astray else rows

    directory = scratch / "mirror"
    directory.mkdir()
    with closing(MirroredQueries(rows_after, directory)) as mirror:
        for _ in range(2):
            with pytest.raises(NotReadable, match="event_log row "):
                await mirror.rollouts()
        is_astray = False
        assert await mirror.rollouts() == await SqliteQueries(eventful).rollouts()
        assert (await mirror.rebuild()).differences == ()


@pytest.mark.anyio
async def test_a_mirror_whose_disk_was_full_for_a_moment_answers_afterwards(
    eventful: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not go on with rows that its database does not have."""

    async def rows_after(seq: int) -> Sequence[LogRow]:
        with closing(open_for_reading(eventful)) as connection:
            return [row for row in read_log(connection, seq) if row.seq <= committed]

    def refuse(store: SqliteStore, writes: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    directory = scratch / "mirror"
    directory.mkdir()
    committed = 50
    with closing(MirroredQueries(rows_after, directory)) as mirror:
        await mirror.rollouts()
        committed = await SqliteQueries(eventful).head()
        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "commit", refuse)
            with pytest.raises(NotReadable, match="disk is full"):
                await mirror.rollouts()
        last, head = -1, 0
        while head != last:
            last, head = head, (await mirror.status()).head_seq
        assert await mirror.hosts() == await SqliteQueries(eventful).hosts()
        assert (await mirror.rebuild()).differences == ()


@pytest.mark.anyio
async def test_a_database_that_is_not_there_cannot_be_read_by_name(tmp_path: Path) -> None:
    """One error for every question, whatever SQLite says."""
    queries = SqliteQueries(tmp_path / "none")
    for ask in QUESTIONS.values():
        with pytest.raises(NotReadable, match="expected a database at"):
            await ask(queries)


def test_a_question_that_is_cancelled_is_through_before_its_event_loop_ends(
    eventful: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread would answer to a loop that is closed."""
    slow = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n"
    raised = list[threading.ExceptHookArgs]()
    monkeypatch.setattr(threading, "excepthook", raised.append)
    before = set(threading.enumerate())

    async def ask() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(SqliteQueries(eventful)._answer, Query(slow, (), list))
            while set(threading.enumerate()) <= before:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    anyio.run(ask)

    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert raised == []


def test_the_read_port_of_sqlite_refuses_another_event_loop_by_name(eventful: Path) -> None:
    """aiosqlite runs under asyncio only."""
    with pytest.raises(NeedsAsyncio, match="expects an event loop of asyncio"):
        anyio.run(SqliteQueries(eventful).deferrals, backend="trio")


def test_a_control_plane_runs_under_trio(scratch: Path) -> None:
    """Kernel, engine, store and waiting polls."""
    answers: list[Dispatch | None] = []

    async def live() -> None:
        with closing(SqliteStore(scratch / "control-plane.sqlite")) as store:
            async with running_service(store) as service, anyio.create_task_group() as hosts:

                async def poll() -> None:
                    answers.append(await service.next_dispatch("web-01", 600))

                hosts.start_soon(poll)
                await anyio.wait_all_tasks_blocked()
                await service.publish(Publisher().release(Layout(), "r1", START))

    anyio.run(live, backend="trio")
    assert [answer and answer.rollout_id for answer in answers] == [ROLLOUT]


@pytest.mark.anyio
async def test_one_moment_of_a_database_does_not_see_later_commits(tmp_path: Path) -> None:
    """The offline commands ask it several questions, and a control plane commits between them."""
    fleet = SmallFleet(tmp_path)
    fleet.publish("r1")
    async with one_moment(fleet.database) as moment:
        head = await moment.head()
        fleet.publish("r2")
        assert (await moment.status()).head_seq == head == await moment.head()
        assert len(await moment.rollouts()) == 1
        assert (await moment.verify()).rows == head
        assert await SqliteQueries(fleet.database).head() > head
