"""Operators' questions, answered by SQL on PostgreSQL: as the SQLite store answers them, beside the one that writes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.history.rebuild import check_chain
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_postgres.blocking import PAGE_BYTES_MAX
from nixfleet_postgres.filling import fill
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.reading import PostgresQueries, moment
from nixfleet_postgres.target import Target
from nixfleet_testing.contracts.store_cases import LAST, ROWS, row
from tests.control_plane.test_read_port import QUESTIONS
from tests.engines.releases import START
from tests.engines.story import STEPS, Story
from tools.postgres.server import Server

pytestmark = pytest.mark.anyio


async def fill_from(target: Target, database: Path) -> None:
    """Copy a SQLite database to `target`."""
    with closing(open_for_reading(database)) as source:
        await fill(target, source, check_chain(source))


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database of a fleet that has lived through much."""
    with closing(Story.within(tmp_path_factory.mktemp("eventful"))) as story:
        for step in STEPS[:40]:
            step(story)
        yield story.control_plane.database


@pytest.fixture
async def queries(target: Target) -> AsyncIterator[PostgresQueries]:
    """The read port of `target`."""
    with closing(PostgresQueries(target)) as queries:
        yield queries


async def test_every_question_has_the_answer_of_the_sqlite_store(
    eventful: Path, target: Target, queries: PostgresQueries
) -> None:
    """In the process that has the store, and in one that reads one moment of it."""
    await fill_from(target, eventful)
    expected = SqliteQueries(eventful)
    async with moment(target) as of_a_moment:
        for asked in (queries, of_a_moment):
            for question, ask in QUESTIONS.items():
                assert await ask(asked) == await ask(expected), question
            assert await asked.verify() == await expected.verify()
            report = await asked.rebuild()
            assert report == await expected.rebuild()
            assert report.differences == ()
            assert await asked.head() == await expected.head()


async def test_an_answer_has_what_was_committed_before_its_question(
    target: Target, queries: PostgresQueries
) -> None:
    """A moment does not: it ends with the last row of its beginning."""
    store = await open_store(target)
    await store.commit(ROWS)
    async with moment(target) as of_a_moment:
        await store.commit([row(LAST + 1)])
        for asked, last in ((queries, LAST + 1), (of_a_moment, LAST)):
            assert await asked.head() == last
            rows = await asked.log_rows(None, after_seq=LAST - 1, limit=10)
            assert [each.seq for each in rows] == [*range(LAST, last + 1)]
            assert (await asked.verify()).rows == last
    await store.close()


async def test_a_question_leaves_no_transaction_open(
    target: Target, server: Server, queries: PostgresQueries
) -> None:
    """One that stays open keeps the server from clearing away what every commit replaces."""
    store = await open_store(target)
    await store.commit(ROWS)
    async with moment(target) as of_a_moment:
        for asked in (queries, of_a_moment):
            await asked.rollouts()
            await asked.verify()
        admin = await server.connect()
        states = await admin.fetch(
            "SELECT DISTINCT state FROM pg_stat_activity WHERE datname IS NOT NULL"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        await admin.close()
    assert {state for (state,) in states} == {"idle"}
    await store.close()


async def test_a_connection_that_reads_can_change_nothing(
    target: Target, queries: PostgresQueries
) -> None:
    """Also by a mistake of this program."""
    await (await open_store(target)).close()
    async with queries._connection() as connection:
        assert await connection.fetchval("SHOW transaction_read_only") == "on"


async def test_a_log_of_rows_of_any_length_is_read_in_pages(
    target: Target, queries: PostgresQueries
) -> None:
    """Rows that are longer than a page, and artefacts with their contents, each once and in order."""
    store = await open_store(target)
    payload = f'{{"body":"{"x" * (PAGE_BYTES_MAX // 2)}"}}'
    rows = [row(seq)._replace(payload=payload, kind="operator_command") for seq in range(1, 8)]
    taken = ArtefactTaken("fleet", None, f'{{"hosts":"{"y" * PAGE_BYTES_MAX}"}}', "", "ci")
    rows += [row_of(seq, START, taken) for seq in range(8, 20)]
    rows += [row(20)._replace(payload=f'{{"body":"{"z" * 2 * PAGE_BYTES_MAX}"}}')]
    rows += [row(seq) for seq in range(21, 2_500)]
    await store.commit(rows)
    assert (await queries.verify()).rows == 2_499
    assert list(await queries.log_rows(None, after_seq=0, limit=2_499)) == rows
    await store.close()


async def test_a_server_that_is_gone_is_not_readable_by_name_and_asked_again(
    target: Target, server: Server, queries: PostgresQueries
) -> None:
    """The connection that was kept for the next question is opened anew."""
    store = await open_store(target)
    await store.commit(ROWS)
    assert await queries.head() == LAST
    admin = await server.connect()
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    await admin.close()
    with suppress(NotReadable):  # unless the end of the connection was noticed before
        await queries.head()
    assert await queries.head() == LAST
    await store.close()


async def test_a_schema_of_another_fleet_is_not_read(target: Target) -> None:
    """As it is not written."""
    await (await open_store(target)).close()
    with (
        closing(PostgresQueries(evolve(target, fleet="other"))) as queries,
        pytest.raises(NotReadable, match="expected the data of the fleet 'other'"),
    ):
        await queries.head()
