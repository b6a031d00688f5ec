"""Hosts drift, leave and join again, waves wait for a time and clocks stand: every law is kept, in small worlds."""

from collections.abc import Callable

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import OnDrift
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_testing.explore import Bounds, Law, ReducerSet, explore
from nixfleet_testing.explore.space import Space
from tests.explore import planted_amended as planted
from tests.explore.walking import moves_reached

DRIFTED = Bounds(hosts=2, waves=2, on_drift=OnDrift.RESTORE, probe_runs=0, on_the_way=1)
REPORTED = Bounds(hosts=2, waves=2, on_drift=OnDrift.REPORT, probe_runs=0, pause=True)
LEAVES = Bounds(hosts=3, waves=2, leaver=True, probe_runs=0, on_the_way=1)
LEAVES_AND_TRIES = Bounds(
    hosts=2, waves=1, leaver=True, tolerance=1, attempts=2, probe_runs=0, on_the_way=1
)
TIMED = Bounds(hosts=2, waves=2, timed=True, pause=True, clear=True)
HELD = Bounds(hosts=2, waves=2, timed=True, deadline=Stage.ACK, probe_runs=0, pause=True)

WORLDS = {
    "drift is restored": DRIFTED,
    "drift is restored, with operators": evolve(
        DRIFTED, hosts=1, waves=1, clear=True, retire=True, on_the_way=None
    ),
    "drift is restored where one may fail": evolve(DRIFTED, waves=1, tolerance=1),
    "drift is reported": REPORTED,
    "a host leaves and joins": LEAVES,
    "a host leaves and joins, with operators": Bounds(
        hosts=2, waves=1, leaver=True, probe_runs=0, clear=True
    ),
    "a host leaves that waits for another": evolve(LEAVES, hosts=2, waves=1, edges=True),
    "a host leaves and tries again": LEAVES_AND_TRIES,
    "a host leaves while another is off": evolve(LEAVES, hosts=2, waves=1, deadline=Stage.ACK),
    "waves have times": TIMED,
    "waves have times, and hosts try again": evolve(
        TIMED,
        tolerance=1,
        attempts=2,
        releases=2,
        probe_runs=0,
        on_the_way=1,
        pause=False,
        clear=False,
    ),
    "clocks stand": HELD,
}


@pytest.mark.parametrize("policy", OnHealthFailure)
@pytest.mark.parametrize("world", WORLDS)
def test_every_world_in_which_something_is_amended_keeps_every_law(
    world: str, policy: OnHealthFailure
) -> None:
    """Whatever is signed again, whatever a host is found to run, and whichever time comes when."""
    report = explore(evolve(WORLDS[world], policy=policy))
    assert report.finding is None, report.finding
    assert report.is_complete


@pytest.mark.parametrize(
    ("bug", "bounds", "law"),
    [
        (planted.drift_has_no_end, REPORTED, Law.DRIFT),
        (planted.acting_host_goes_on_drifting, DRIFTED, Law.DRIFT),
        (planted.drift_lets_a_host_count_for_nothing, REPORTED, Law.DRIFT),
        (planted.reported_drift_is_restored, REPORTED, Law.CLOCK),
        (planted.who_left_counts_on, LEAVES, Law.MEMBERS),
        (planted.joiner_reopens_its_wave, LEAVES, Law.MEMBERS),
        (planted.who_left_keeps_its_attempts, LEAVES_AND_TRIES, Law.MEMBERS),
        (planted.waves_begin_before_their_time, TIMED, Law.EARLY),
        (planted.clock_runs_while_a_channel_is_paused, HELD, Law.CLOCK),
    ],
)
def test_a_planted_bug_is_found_where_something_is_amended_and_nowhere_else(
    bug: Callable[[], ReducerSet], bounds: Bounds, law: Law
) -> None:
    """The law that it breaks is named; in the same world without drift, leaver and times nothing is found."""
    finding = explore(bounds, bug()).finding
    assert finding is not None
    assert finding.law is law

    plain = evolve(bounds, on_drift=None, leaver=False, timed=False, deadline=None)
    assert explore(plain, bug()).finding is None


def test_hosts_drift_and_are_restored_leave_and_join_in_the_worlds_that_are_walked() -> None:
    """A law about what never happens proves nothing."""
    happened = _done_in(evolve(DRIFTED, waves=1, tolerance=1)) | _done_in(LEAVES)
    assert happened >= {
        "web-1 has drifted: it runs by-hand",
        "the drift of web-1 has ended",
        "attempt 2 of web-1 is ordered",
        "web-2 leaves stable@one",
        "web-2 joins stable@one",
    }


@pytest.mark.parametrize("hosts", [1, 3])
def test_bounds_without_another_host_beside_the_one_that_leaves_are_refused(hosts: int) -> None:
    """A wave that is empty never ends, and `release check` refuses it."""
    with pytest.raises(ValueError, match="another host"):
        Bounds(hosts=hosts, waves=hosts, leaver=True)


def _done_in(bounds: Bounds) -> set[str]:
    space = Space(bounds, ReducerSet(), symmetric=True)
    moves = moves_reached(space, symmetric=True)
    return {did for before, after in moves for did in space.did(before, after)}
