"""What the tests of every directory share."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that the runtimes run on."""
    return "asyncio"
