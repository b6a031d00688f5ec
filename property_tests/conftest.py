"""How many examples, and whether chance has a say: `HYPOTHESIS_PROFILE=random` looks further than `ci`."""

import os

from hypothesis import settings

from nixfleet_testing.assertions import require_assertions


def pytest_configure() -> None:
    """Refuse `python -O`."""
    require_assertions("the property tests of nixfleet")


# The same examples whenever the same tests are run, so that a failure stays until it is mended.
settings.register_profile("ci", derandomize=True, max_examples=200, deadline=None, database=None)
# New examples every time; a failure prints what brings it back.
settings.register_profile("random", max_examples=1_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
