"""Few examples of each law and no shrinking: a mutant is noticed or not, nobody reads how."""

import pytest
from hypothesis import Phase, settings

from nixfleet_state_machine.planner.index import rollout_view as book

settings.register_profile(
    "mutants",
    max_examples=25,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
)


@pytest.fixture(autouse=True, scope="session")
def _forget() -> None:
    """What was counted before the mutant was planted, in the process that this one is a fork of."""
    book._counts.cache_clear()
