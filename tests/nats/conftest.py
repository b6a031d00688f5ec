"""One NATS server for all tests in this directory that need no server of their own, and a prefix for each."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nixfleet_nats.names import Names
from nixfleet_nats.server_config import ServerConfig
from nixfleet_nats.target import Target
from nixfleet_proto.signing import SigningKey
from tools.nats.server import Server, running_server, why_not

KEY = SigningKey.generate()
"""The control plane's."""
_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server; without one, what says so is skipped."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        TemporaryDirectory(prefix="nixfleet-nats-") as directory,
        running_server(Path(directory), ServerConfig(KEY.public_key, Path())) as running,
    ):
        yield running


@pytest.fixture
def anyio_backend() -> str:
    """The only one under which nats-py runs."""
    return "asyncio"


@pytest.fixture
def target(server: Server) -> Target:
    """A prefix on the server of which nothing is there yet."""
    return target_on(server)


def target_on(server: Server) -> Target:
    """Return a prefix on a server of which nothing is there yet."""
    return Target((server.url,), Names(f"nf{next(_NUMBERS)}"))
