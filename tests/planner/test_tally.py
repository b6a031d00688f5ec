"""`Tally`: how one host counts, and how many do together."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.tally import NOBODY, Tally, absent, sum_of, tally_of


@pytest.mark.parametrize(
    ("state", "tally"),
    [
        (HostState.PENDING, Tally(1, 0, 0, 0, 2, 0)),
        (HostState.ACTIVATING, Tally(1, 0, 0, 0, 2, 0)),
        (HostState.DEFERRED, Tally(1, 1, 1, 0, 2, 0)),
        (HostState.SOAKING, Tally(1, 0, 1, 0, 2, 1)),
        (HostState.CONVERGED, Tally(1, 1, 1, 1, 2, 1)),
        (HostState.FAILED, Tally(1, 0, 0, 0, 2, 0)),
        (HostState.REVERTED, Tally(1, 0, 0, 0, 2, 0)),
    ],
)
def test_a_host_counts_by_its_state(state: HostState, tally: Tally) -> None:
    """Done for order, settled, converged; undeclared only where probes run."""
    assert tally_of(state, is_declared=False, failing=2) == tally


@pytest.mark.parametrize("state", [HostState.SOAKING, HostState.CONVERGED])
def test_a_running_host_that_declared_its_probes_is_not_undeclared(state: HostState) -> None:
    """Whatever it declared, the host is not waited for."""
    assert tally_of(state, is_declared=True, failing=0).undeclared == 0


def test_a_host_without_a_record_counts_for_itself_and_its_failing_controls() -> None:
    """The terms name it, so it belongs; nothing else is known."""
    assert tally_of(None, is_declared=False, failing=0) == absent(1)
    assert tally_of(None, is_declared=False, failing=3) == Tally(1, 0, 0, 0, 3, 0)


def test_a_sum_is_taken_figure_by_figure() -> None:
    """Of no hosts at all it is nobody's."""
    assert sum_of([Tally(1, 2, 3, 4, 5, 6), Tally(10, 20, 30, 40, 50, 60)]) == Tally(
        11, 22, 33, 44, 55, 66
    )
    assert sum_of([]) == NOBODY


def test_a_host_that_counts_otherwise_changes_the_tally_by_the_difference() -> None:
    """What it counted before is taken out, and what it counts now put in."""
    wave = Tally(4, 1, 2, 1, 3, 1)

    assert wave.replaced(Tally(1, 0, 1, 0, 3, 1), Tally(1, 1, 1, 1, 0, 0)) == Tally(
        4, 2, 2, 2, 0, 0
    )
