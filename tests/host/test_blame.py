"""Which reverts bar the closure that the host left."""

from datetime import datetime

import pytest
from attrs import evolve

from nixfleet_state_machine.host.blame import blames_closure
from tests.builders import PRIOR, TARGET, at, failed_host, rollback_complete, told


@pytest.mark.parametrize(
    ("activated_at", "reverted_to", "is_bad"),
    [(at(60), PRIOR, True), (None, PRIOR, False), (at(60), TARGET, False)],
    ids=["ran", "never-ran", "ran-before"],
)
def test_a_closure_is_to_blame_when_it_ran_and_was_left(
    activated_at: datetime | None, reverted_to: str, is_bad: bool
) -> None:
    """One that never ran here says nothing of other hosts, nor does a host that reverted to the same closure."""
    failed = evolve(failed_host(), activation_completed_at=activated_at)
    reverted, _ = told(failed, rollback_complete(closure=reverted_to))

    assert blames_closure(reverted) is is_bad
