"""Back-tests: under the recorded policy every rollout ends when it did, whatever happened in a life."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forecast.recorded import played, played_ends, recorded_ends
from tests.forecast.worlds import world_of


@settings(max_examples=4)  # A life is drawn by its seed, and takes a second to be lived.
@given(seed=st.integers(0, 2**31), hosts=st.integers(1, 5))
def test_a_back_test_under_the_recorded_policy_ends_at_the_recorded_time(
    seed: int, hosts: int
) -> None:
    """Faults, operators, windows, guards, deadlines, restarts and clocks that are set back included."""
    with world_of(seed, hosts, 0.05) as database:
        recorded = recorded_ends(database)
        ends = played_ends(played(database))

    assert {it: ends.get(it) for it in recorded} == {it: at for it, (_, at) in recorded.items()}
