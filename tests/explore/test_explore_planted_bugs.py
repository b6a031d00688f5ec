"""Each planted bug is found, as a breach of the law it breaks, with a shortest path to it."""

from collections.abc import Callable

import pytest

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_testing.explore import Bounds, Finding, Law, ReducerSet, explore
from tests.explore import planted

BUGS = [
    (planted.wave_moves_with_its_first_host, Bounds(hosts=3, waves=2), Law.WAVE_DONE, 11),
    (planted.failed_rollback_is_a_revert, Bounds(hosts=3, waves=2), Law.RUNNING, 4),
    (planted.halt_is_not_honoured, Bounds(hosts=3, waves=2), Law.WITHDRAWN, 5),
    (planted.repeated_facts_are_taken, Bounds(hosts=3, waves=2), Law.REPEATED, 3),
    (planted.switch_is_not_fired, Bounds(hosts=2, waves=2), Law.RESTS, 3),
    (planted.second_dispatch_has_new_times, Bounds(hosts=2, waves=1, pause=True), Law.MIRROR, 4),
    (planted.withdrawals_are_forgotten, Bounds(hosts=2, waves=1, pause=True), Law.WITHDRAWN, 2),
    (
        planted.excused_hosts_hold_by_their_edges,
        Bounds(hosts=2, waves=1, edges=True, own_closures=True, clear=True),
        Law.IDLE,
        6,
    ),
    (planted.kept_plan_forgets_later_waves, Bounds(hosts=2, waves=2), Law.ONE_PLAN, 11),
]

ROLL_BACK, HALT = OnHealthFailure.ROLLBACK_AND_HALT, OnHealthFailure.HALT
TOLERANT = Bounds(hosts=3, waves=1, tolerance=1, probe_runs=1)
IN_A_ROW = Bounds(hosts=2, waves=1, tolerance=1, edges=True, own_closures=True)
OFF = Bounds(hosts=2, waves=2, deadline=Stage.ACK, probe_runs=0)
SLOW = Bounds(hosts=2, waves=1, deadline=Stage.ACTIVATION, probe_runs=0)

POLICY_BUGS = [
    (planted.rollbacks_are_not_fired, Bounds(hosts=1, waves=1), Law.WAY_BACK, 3),
    (planted.hold_lets_others_go_ahead, Bounds(hosts=2, waves=2, pause=True), Law.HOLD, 2),
    (planted.tolerance_has_no_limit, TOLERANT, Law.HALTS, 9),
    (planted.wave_without_success_goes_on, OFF, Law.IDLE, 2),
    (planted.nobody_is_skipped, IN_A_ROW, Law.IDLE, 7),
    (planted.deadlines_pass_unnoticed, OFF, Law.TIME, 2),
    (planted.heartbeats_give_nothing_back, OFF, Law.TIME, 3),
    (planted.facts_give_nothing_back, OFF, Law.STANDING, 4),
    (planted.late_hosts_count_again, SLOW, Law.ENDS, 14),
    (planted.attempts_have_no_end, Bounds(hosts=1, waves=1, attempts=2), Law.ATTEMPTS, 8),
    (planted.aborts_end_nothing, Bounds(hosts=1, waves=1, abort=True), Law.STAYS, 2),
    (
        planted.aborts_are_cleared_by_a_late_revert,
        Bounds(hosts=1, waves=1, abort=True),
        Law.STAYS,
        8,
    ),
    (planted.first_revert_bars_its_closure, TOLERANT, Law.BARRED, 13),
    (planted.broken_wave_bars_nothing, TOLERANT, Law.QUARANTINE, 17),
    (planted.broken_wave_bars_what_never_ran, TOLERANT, Law.BARRED, 11),
    (planted.worst_case_forgets_who_is_under_way, TOLERANT, Law.WORST, 13),
    (planted.worst_case_is_every_host, Bounds(hosts=2, waves=2), Law.WORST, 0),
]


@pytest.mark.parametrize(("bug", "bounds", "law", "moves"), [*BUGS, *POLICY_BUGS])
def test_a_planted_bug_is_found_by_a_shortest_path(
    bug: Callable[[], ReducerSet], bounds: Bounds, law: Law, moves: int
) -> None:
    """The law that the bug breaks is named, after as few moves as it takes."""
    finding = _found(bounds, bug())
    assert finding.law is law
    assert len(finding.path) == moves


def test_a_finding_tells_its_path_in_words() -> None:
    """Each move is told with what the control plane did thereupon."""
    finding = _found(Bounds(hosts=2, waves=2), planted.halt_is_not_honoured())
    assert finding.found.startswith("a fresh plan says (QueueDispatch(host='web-2'")
    assert [(step.what, step.did) for step in finding.path] == [
        (
            "CI publishes stable@one",
            (
                "stable@one opens",
                "web-1 is dispatched",
                "stable@one goes from Opening to Active",
            ),
        ),
        ("web-1 takes the dispatch of stable@one", ()),
        ("web-1 fails to switch", ()),
        (
            "web-1 is heard: DispatchAck, seq 1 of stable@one",
            ("web-1 goes from Pending to Activating",),
        ),
        (
            "web-1 is heard: ActivationFailed, seq 2 of stable@one",
            (
                "web-1 goes from Activating to Failed",
                "stable@one goes from Active to Failed",
            ),
        ),
    ]


def test_a_path_found_among_twins_keeps_each_host_under_one_name() -> None:
    """A host that stood for its twin on the way is called the same from the first move to the last."""
    finding = _found(Bounds(hosts=3, waves=2), planted.wave_moves_with_its_first_host())
    of_hosts = [step.what.split()[0] for step in finding.path if step.what.startswith("web-")]
    assert len(set(of_hosts)) == 1


def _found(bounds: Bounds, machine: ReducerSet) -> Finding:
    finding = explore(bounds, machine).finding
    assert finding is not None
    return finding
