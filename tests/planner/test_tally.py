"""`Tally`: how one host counts, and how many do together."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.tally import NOBODY, Tally, sum_of, tally_of, unheard
from nixfleet_state_machine.rollout.state import Standing


@pytest.mark.parametrize(
    ("state", "tally"),
    [
        (HostState.PENDING, Tally(1, 0, 0, 0, 2, 0)),
        (HostState.ACTIVATING, Tally(1, 0, 0, 0, 2, 0)),
        (HostState.DEFERRED, Tally(1, 1, 1, 0, 2, 0)),
        (HostState.SOAKING, Tally(1, 0, 1, 0, 2, 1)),
        (HostState.CONVERGED, Tally(1, 1, 1, 1, 2, 1)),
        (HostState.FAILED, Tally(1, 0, 0, 0, 2, 0, failed=1)),
        (HostState.REVERTED, Tally(1, 0, 0, 0, 2, 0, failed=1)),
    ],
)
def test_a_host_counts_by_its_state(state: HostState, tally: Tally) -> None:
    """Done for order, settled, converged; undeclared only where probes run."""
    assert _counted(state, failing=2) == tally


@pytest.mark.parametrize("state", [HostState.SOAKING, HostState.CONVERGED])
def test_a_running_host_that_declared_its_probes_is_not_undeclared(state: HostState) -> None:
    """Whatever it declared, the host is not waited for."""
    assert _counted(state, is_declared=True).undeclared == 0


def test_a_host_without_a_record_counts_for_itself_and_its_failing_controls() -> None:
    """The terms name it, so it belongs; nothing else is known."""
    assert _counted(None) == unheard(1)
    assert _counted(None, failing=3) == Tally(1, 0, 0, 0, 3, 0)


@pytest.mark.parametrize("state", [HostState.FAILED, HostState.REVERTED])
def test_the_controls_of_a_host_that_may_fail_and_did_hold_nobody(state: HostState) -> None:
    """Later waves do not wait for it; where no host may fail they do."""
    assert _counted(state, failing=2, is_tolerant=True).failing == 0
    assert _counted(state, failing=2).failing == 2


@pytest.mark.parametrize("state", [HostState.ACTIVATING, HostState.SOAKING])
def test_a_host_that_tries_again_counts_as_failed(state: HostState) -> None:
    """Until the attempt succeeds."""
    again = tally_of(state, True, 0, has_failed=True, is_tolerant=True, standing=Standing.COUNTED)
    assert (again.total, again.failed) == (1, 1)


@pytest.mark.parametrize(
    ("standing", "tally"),
    [
        (Standing.EXCUSED, NOBODY),
        (Standing.LATE, NOBODY),
        (Standing.LEFT, NOBODY),
        (Standing.SKIPPED, NOBODY._replace(absent=1)),
        (Standing.AWAY, NOBODY._replace(absent=1)),
        (Standing.LAPSED, NOBODY._replace(total=1, failed=1)),
    ],
)
@pytest.mark.parametrize("state", [None, *HostState])
def test_a_host_with_a_standing_counts_by_it_alone(
    standing: Standing, tally: Tally, state: HostState | None
) -> None:
    """Whatever its state is."""
    assert tally_of(state, False, 3, False, True, standing) == tally


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


def _counted(
    state: HostState | None,
    *,
    is_declared: bool = False,
    failing: int = 0,
    is_tolerant: bool = False,
) -> Tally:
    has_failed = state in (HostState.FAILED, HostState.REVERTED)
    return tally_of(state, is_declared, failing, has_failed, is_tolerant, Standing.COUNTED)
