"""One PostgreSQL server for all tests in this directory, and a schema for each."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from attrs import evolve

from nixfleet_postgres.target import Target
from tests.postgres.proxy import Proxy, running_proxy
from tools.postgres.server import PASSWORD, Server, file_of, running_server, why_not

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server; without one, what says so is skipped."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        TemporaryDirectory(prefix="nixfleet-pg-") as directory,
        running_server(Path(directory)) as running,
    ):
        yield running


@pytest.fixture
def anyio_backend() -> str:
    """The only one under which asyncpg runs."""
    return "asyncio"


@pytest.fixture
def target(server: Server, tmp_path: Path) -> Target:
    """A schema that is not there yet."""
    return server.target(tmp_path, f"fleet {next(_NUMBERS)}")


@pytest.fixture
def appender(target: Target, server: Server) -> Target:
    """`target` by a role of its own, which may do nothing yet, and whose schema another one makes."""
    role = f"appender {target.schema}"

    async def create() -> None:
        owner = await server.connect()
        await owner.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'")
        await owner.close()

    with start_blocking_portal() as portal:
        portal.call(create)
    url = server.url(user=role.replace(" ", "%20"))
    file = file_of(target.dsn_file.with_name("appender"), url)
    return evolve(target, dsn_file=file, owner_dsn_file=target.dsn_file)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """What cuts connections to the server."""
    with running_proxy(server.port) as proxy:
        yield proxy
