"""Who may write: the process that opened the store last, whatever became of its connections."""

import asyncio

import anyio
import asyncpg
import pytest
from attrs import evolve

from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.errors import AnotherOwner, OutOfOrder
from nixfleet_postgres.postgres_store import PostgresStore, open_store
from nixfleet_postgres.target import Target
from nixfleet_runtime.kernel.write_failures import Unreachable
from nixfleet_testing.contracts.store_cases import LAST, ROWS, hold, row
from tests.postgres.proxy import Cut, Proxy
from tools.postgres.server import Server, file_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def proxied(target: Target, server: Server, proxy: Proxy) -> Target:
    """`target`, through the proxy."""
    url = server.url(port=proxy.port)
    return evolve(target, dsn_file=file_of(target.dsn_file.with_name("proxied"), url))


async def _head(target: Target) -> int:
    store = await open_store(target)
    found = (await store.load()).head_seq
    await store.close()
    return found


async def _frozen(server: Server, schema: str) -> Connection:
    """Return a session in whose transaction nothing can be appended to the schema."""
    blocking = await server.connect()
    await blocking.execute("BEGIN")
    await blocking.execute(f'SELECT FROM "{schema}".shards FOR UPDATE')
    return blocking


async def test_a_process_that_starts_takes_the_store_from_the_one_that_has_it(
    target: Target,
) -> None:
    """The first one writes nothing more, and is told who has it."""
    first = await open_store(target)
    await first.commit(ROWS)
    second = await open_store(target)

    with pytest.raises(AnotherOwner) as refused:
        await first.commit([row(LAST + 1)])
    assert (refused.value.expected, refused.value.found) == (
        f"epoch 1, row {LAST}",
        f"epoch 2, row {LAST}",
    )
    await second.commit([row(LAST + 1)])
    await first.close()
    await second.close()
    assert await _head(target) == LAST + 1


async def test_cached_records_alone_are_fenced_too(target: Target) -> None:
    """A commit that adds nothing to the log compares the epoch as well."""
    first = await open_store(target)
    await first.commit(ROWS)
    second = await open_store(target)
    with pytest.raises(AnotherOwner):
        await first.commit([])
    await first.close()
    await second.close()


@pytest.mark.parametrize("cut", Cut)
async def test_a_connection_that_breaks_leaves_all_of_a_commit_or_nothing(
    proxied: Target, target: Target, proxy: Proxy, cut: Cut
) -> None:
    """Fifty times: what `commit` says is what is there, and the store goes on."""
    store = await open_store(proxied)
    await store.commit(ROWS)
    head = LAST
    for _ in range(50):
        await store.commit([])  # the new connection has prepared its statement
        proxy.cut = cut
        try:
            await store.commit([row(head + 1), hold(head + 1)])
            head += 1
        except Unreachable:
            assert cut is not Cut.ANSWER
    await store.close()
    assert proxy.cuts == 50
    assert await _head(target) == head
    assert cut is Cut.AT_ONCE or head == LAST + (50 if cut is Cut.ANSWER else 0)


async def test_a_process_that_was_replaced_while_its_answer_was_lost_is_fenced(
    proxied: Target, target: Target, proxy: Proxy
) -> None:
    """What it takes again is no longer its own."""
    first = await open_store(proxied)
    await first.commit(ROWS)
    second = await open_store(target)
    proxy.cut = Cut.BEFORE
    with pytest.raises(AnotherOwner):
        await first.commit([row(LAST + 1)])
    await second.commit([row(LAST + 1)])
    await first.close()
    await second.close()


async def test_a_commit_that_is_under_way_ends_before_another_process_takes_the_store(
    target: Target, server: Server
) -> None:
    """Whoever takes over sees it whole, however long it hung."""
    first = await open_store(target)
    await first.commit(ROWS)
    blocking = await _frozen(server, target.schema)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.commit, [row(LAST + 1)])
        await _waiting_for_a_lock(server, 1)
        taking = asyncio.ensure_future(open_store(target))
        await _waiting_for_a_lock(server, 2)
        await blocking.execute("COMMIT")
        second = await taking
    assert (await second.load()).head_seq == LAST + 1
    await second.commit([row(LAST + 2)])
    for each in (first, second):
        await each.close()
    await blocking.close()


async def _waiting_for_a_lock(server: Server, sessions: int) -> None:
    asking = await server.connect()
    with anyio.fail_after(30):
        while sessions > await asking.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ):
            await anyio.lowlevel.checkpoint()
    await asking.close()


async def test_a_session_that_an_administrator_ends_is_opened_again(
    target: Target, server: Server
) -> None:
    """A restart of the server, or pg_terminate_backend: nothing is lost, and the next commit succeeds."""
    store = await open_store(target)
    await store.commit(ROWS)
    admin = await server.connect()
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    await admin.close()
    try:
        await store.commit([row(LAST + 1)])
    except Unreachable:
        await store.commit([row(LAST + 1)])
    await store.close()
    assert await _head(target) == LAST + 1


async def test_a_commit_to_a_server_that_is_gone_says_that_nothing_was_written(
    proxied: Target, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and goes on when the server is back."""
    monkeypatch.setattr("nixfleet_postgres.postgres_store.ATTEMPTS", (0.0,))
    store = await open_store(proxied)
    await store.commit(ROWS)
    store._connection.terminate()
    proxy.refusing = True
    with pytest.raises(Unreachable, match="nothing was written"):
        await store.commit([row(LAST + 1)])
    proxy.refusing = False
    await store.commit([row(LAST + 1)])
    await store.close()


async def test_a_row_that_is_altered_or_removed_is_refused_by_the_database(
    target: Target, server: Server
) -> None:
    """The log is append-only for its owner too."""
    store: PostgresStore = await open_store(target)
    await store.commit(ROWS)
    owner = await server.connect()
    for statement in ("UPDATE {} SET ts = ''", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await owner.execute(statement.format(f'"{target.schema}".event_log'))
    await owner.close()
    await store.close()


async def test_a_row_with_another_number_is_refused_before_it_is_sent(target: Target) -> None:
    """With the number that was expected."""
    store = await open_store(target)
    await store.commit(ROWS)
    with pytest.raises(OutOfOrder, match=f"expected row {LAST + 1}, found row {LAST + 2}"):
        await store.commit([row(LAST + 2)])
    await store.close()
