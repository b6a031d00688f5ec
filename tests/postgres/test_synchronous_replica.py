"""A commit that waits for a synchronous replica, and whose wait is cancelled: the server confirms it with a warning."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from nixfleet_postgres.connecting import Connection
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.target import Target
from nixfleet_runtime.kernel.write_failures import OutcomeUnknown
from nixfleet_testing.contracts.store_cases import LAST, ROWS, row
from tools.postgres.server import Server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _waiting_for_a_replica(server: Server) -> AsyncIterator[Connection]:
    """Let the server wait, after each commit, for a replica that is not there."""
    admin = await server.connect()
    await admin.execute("SET synchronous_commit = local")
    try:
        await _wait_for(admin, "nobody")
        yield admin
    finally:
        await _wait_for(admin, "")
        await admin.close()


async def _wait_for(admin: Connection, name: str) -> None:
    await admin.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    await admin.execute("SELECT pg_reload_conf()")
    while await admin.fetchval("SHOW synchronous_standby_names") != name:
        await anyio.lowlevel.checkpoint()


async def _cancel_one_wait(admin: Connection) -> None:
    with anyio.fail_after(30):
        while not await admin.fetchval(
            "SELECT bool_or(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ):
            await anyio.lowlevel.checkpoint()


async def _waits_again(admin: Connection) -> None:
    with anyio.fail_after(30):
        while not await admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ):
            await anyio.lowlevel.checkpoint()


async def test_a_commit_whose_wait_was_cancelled_is_durable_once_a_later_one_was_replicated(
    server: Server, target: Target
) -> None:
    """It is not believed: the store commits again, and waits for that."""
    store = await open_store(target)
    await store.commit(ROWS)
    async with anyio.create_task_group() as tasks, _waiting_for_a_replica(server) as admin:
        committed = anyio.Event()

        async def commit() -> None:
            await store.commit([row(LAST + 1)])
            committed.set()

        tasks.start_soon(commit)
        await _cancel_one_wait(admin)
        await _waits_again(admin)
        assert not committed.is_set()
    assert (await store.load()).head_seq == LAST + 1
    await store.commit([row(LAST + 2)])
    await store.close()
    await anyio.lowlevel.checkpoint()  # the connection is closed in the loop's next round


async def test_a_commit_that_no_replica_ever_confirms_has_an_unknown_outcome(
    server: Server, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait is cancelled: the store gives up, and is not used again."""
    monkeypatch.setattr("nixfleet_postgres.postgres_store.ATTEMPTS", (0.0,))
    store = await open_store(target)
    await store.commit(ROWS)
    async with _waiting_for_a_replica(server) as admin, anyio.create_task_group() as tasks:
        unknown = anyio.Event()

        async def commit() -> None:
            with pytest.raises(OutcomeUnknown, match="a wait for it that was cancelled"):
                await store.commit([row(LAST + 1)])
            unknown.set()

        tasks.start_soon(commit)
        while not unknown.is_set():
            await _cancel_one_wait_if_any(admin)
    await store.close()
    await anyio.lowlevel.checkpoint()  # the connection is closed in the loop's next round


async def _cancel_one_wait_if_any(admin: Connection) -> None:
    await admin.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    )
    await anyio.lowlevel.checkpoint()
