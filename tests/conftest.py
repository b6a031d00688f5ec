"""What the tests of every directory share."""

import pytest

from nixfleet_testing.assertions import require_assertions


def pytest_configure() -> None:
    """Refuse `python -O`."""
    require_assertions("the test suite of nixfleet")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that the runtimes run on."""
    return "asyncio"
