"""Back-tests: under the recorded policy every rollout ends when it did, whatever happened in a life."""

from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.backtest.shadow import Shadow
from nixfleet_runtime.kernel.zones import SystemZones
from tests.forecast.recorded import played, played_ends, recorded_ends
from tests.forecast.worlds import world_of

LOOKS = 20


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


@settings(max_examples=4)
@given(seed=st.integers(0, 2**31), hosts=st.integers(1, 5))
def test_a_shadow_under_the_recorded_policy_stands_where_the_log_stands(
    seed: int, hosts: int
) -> None:
    """At every look at a log that grows, though it keeps nothing of rollouts that ended."""
    with world_of(seed, hosts, 0.05) as database, closing(open_for_reading(database)) as connection:
        rows = list(read_log(connection))
    shadow, head = Shadow(Replay(), Replay(), SystemZones()), Replay()
    looks = max(1, len(rows) // LOOKS)
    for row, after in zip(rows, (*rows[1:], None), strict=True):
        shadow.take(row)
        for _ in head.take(row):
            pass
        # What is told at one moment is not looked at half-way.
        if row.seq % looks == 0 and (after is None or after.ts != row.ts):
            assert shadow.differences(lambda taken: taken) == ()
            view, played = head.state.view, shadow.played()
            stands = {it.rollout_id: (it.state, it.wave) for it in played.rollouts}
            assert {it: stands.get(it) for it in shadow.mattering()} == {
                it: (view.rollouts[it].state, view.rollouts[it].current_wave)
                for it in shadow.mattering()
            }
