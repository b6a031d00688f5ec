"""What the tests of every directory share. `HYPOTHESIS_PROFILE` names how often each law is tried, and with what."""

import os

import pytest
from hypothesis import HealthCheck, settings

from nixfleet_testing.assertions import require_assertions


def pytest_configure() -> None:
    """Refuse `python -O`."""
    require_assertions("the tests of nixfleet")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that the runtimes run on."""
    return "asyncio"


# `make test`: the same examples every time, so that a failure stays until it is fixed. How long one takes depends on
# the machine, and is no failure.
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=200,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# `make check`: a quarter of them, for an answer within a minute.
settings.register_profile("quick", settings.get_profile("ci"), max_examples=50)
# New examples every time; a failure prints what brings it back.
settings.register_profile("random", max_examples=1_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
