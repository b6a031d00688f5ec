"""How many examples each law is tried with, and whether they are new ones: `HYPOTHESIS_PROFILE` names a profile."""

import os

from hypothesis import settings

from nixfleet_testing.assertions import require_assertions


def pytest_configure() -> None:
    """Refuse `python -O`."""
    require_assertions("the property tests of nixfleet")


# `make test`: the same examples every time, so that a failure stays until it is fixed.
settings.register_profile("ci", derandomize=True, max_examples=200, deadline=None, database=None)
# `make check`: a quarter of them, for an answer within a minute.
settings.register_profile("quick", settings.get_profile("ci"), max_examples=50)
# New examples every time; a failure prints what brings it back.
settings.register_profile("random", max_examples=1_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
