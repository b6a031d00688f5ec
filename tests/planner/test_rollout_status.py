"""How waves stand, who is tolerated as failed, and who is overdue with nothing to follow."""

from datetime import datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.deadlines import GRACE
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.rollout_status import (
    PATIENCE,
    OverdueHost,
    WaveState,
    WaveStatus,
    overdue_hosts,
    standing_counts,
    tolerated_hosts,
    wave_statuses,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.planner.builders import NOW, host_of, put, rollout_of, terms_of, view_of

HOSTS = ("web-1", "web-2", "web-3", "web-4")
CONVERGED, REVERTED = HostState.CONVERGED, HostState.REVERTED


def test_each_wave_is_shown_with_its_counts_and_its_verdict() -> None:
    """Of a wave that has not begun nothing can be said, and hosts in no wave come last."""
    terms = terms_of(
        waves=(("web-1", "web-2", "web-3"), ("web-4",)), unstaged=("db-1",), allowed=(1, 0)
    )
    view = view_of(terms)
    put(view, terms, web_1=CONVERGED, web_2=REVERTED)
    view.set_rollout(rollout_of(terms, standings={"web-3": Standing.AWAY}))

    assert wave_statuses(view, terms.rollout_id) == (
        WaveStatus(0, 2, 1, 1, 1, 1, WaveState.DONE),
        WaveStatus(1, 1, 0, 0, 0, 0, WaveState.WAITING),
        WaveStatus(None, 1, 0, 0, 0, 0, WaveState.WAITING),
    )


@pytest.mark.parametrize(
    ("state", "verdict"), [(HostState.SOAKING, WaveState.GOING), (REVERTED, WaveState.BROKEN)]
)
def test_a_wave_that_has_begun_is_going_or_broken(state: HostState, verdict: WaveState) -> None:
    """By the verdict of the planner."""
    terms = terms_of(waves=(("web-1", "web-2"),))
    view = view_of(terms)
    put(view, terms, web_1=state)

    (wave,) = wave_statuses(view, terms.rollout_id)

    assert wave.verdict is verdict


@pytest.mark.parametrize("state", [it for it in RolloutState if it.is_halted])
def test_a_wave_of_a_halted_rollout_is_not_going(state: RolloutState) -> None:
    """It is broken if that is its verdict, waiting if it has not begun, and otherwise halted."""
    terms = terms_of(waves=(("web-1", "web-2"), ("web-3",)))
    view = view_of(terms)
    put(view, terms, web_1=REVERTED)
    excused = {"web-1": Standing.EXCUSED}

    view.set_rollout(rollout_of(terms, state))
    assert _verdicts(view, terms) == [WaveState.BROKEN, WaveState.WAITING]
    view.set_rollout(rollout_of(terms, state, standings=excused))
    assert _verdicts(view, terms) == [WaveState.HALTED, WaveState.WAITING]


def _verdicts(view: FleetView, terms: RolloutTerms) -> list[WaveState]:
    return [wave.verdict for wave in wave_statuses(view, terms.rollout_id)]


def test_standings_are_counted_without_the_hosts_that_count() -> None:
    """In the order of their declaration."""
    late = dict.fromkeys(("web-1", "web-2"), Standing.LATE)
    record = rollout_of(terms_of(), standings={**late, "web-3": Standing.EXCUSED})

    assert list(standing_counts(record).items()) == [(Standing.EXCUSED, 1), (Standing.LATE, 2)]


def test_hosts_that_count_as_failed_where_some_may_are_named() -> None:
    """Those that lapsed too; not one that is excused, nor any of a wave in which none may fail."""
    terms = terms_of(waves=(HOSTS, ("db-1",)), allowed=(3, 0))
    view = view_of(terms)
    put(view, terms, web_1=REVERTED, web_2=REVERTED, web_4=CONVERGED, db_1=REVERTED)
    standings = {"web-2": Standing.EXCUSED, "web-3": Standing.LAPSED}
    view.set_rollout(rollout_of(terms, standings=standings))

    assert tolerated_hosts(view, terms.rollout_id, 0) == ("web-1", "web-3")
    assert tolerated_hosts(view, terms.rollout_id, 1) == ()
    assert tolerated_hosts(view, terms.rollout_id, None) == ()


def _overdue_of(now: datetime, deadlines: Deadlines) -> list[OverdueHost]:
    terms = terms_of(deadlines=deadlines)
    view = view_of(terms)
    view.set_queued(terms.rollout_id, "web-1", True, NOW)
    return list(overdue_hosts(view, now))


@pytest.mark.parametrize(
    ("deadlines", "at"),
    [
        (Deadlines(ack=Deadline(10, AtDeadline.WAIT)), timedelta(minutes=10)),
        (Deadlines(), PATIENCE),
    ],
)
def test_a_host_is_overdue_after_its_deadline_or_long_without_one(
    deadlines: Deadlines, at: timedelta
) -> None:
    """To the microsecond; with the stage and since when."""
    declared = None if deadlines.ack is None else NOW + at
    overdue = OverdueHost(terms_of().rollout_id, "web-1", Stage.ACK, NOW, declared)

    assert _overdue_of(NOW + at - timedelta(microseconds=1), deadlines) == []
    assert _overdue_of(NOW + at, deadlines) == [overdue]


def test_a_host_that_soaks_is_overdue_only_after_the_end_of_the_soak() -> None:
    """A long soak is no silence."""
    terms = terms_of()
    view = view_of(terms)
    soaking = evolve(
        host_of(terms, "web-1", HostState.SOAKING),
        dispatched_at=NOW,
        activation_completed_at=NOW,
        soak_due_at=NOW + timedelta(hours=4),
    )
    view.set_host(soaking)
    end = NOW + timedelta(hours=4) + PATIENCE

    assert list(overdue_hosts(view, end - timedelta(microseconds=1))) == []
    assert [each.hostname for each in overdue_hosts(view, end)] == ["web-1"]


def test_only_hosts_that_count_in_a_live_rollout_are_overdue() -> None:
    """Not one that is away, nor one of a rollout that is over; and a deadline of acting hosts has its grace."""
    terms = terms_of(deadlines=Deadlines(activation=Deadline(1, AtDeadline.WAIT)))
    view = view_of(terms)
    put(view, terms, web_1=HostState.ACTIVATING, web_2=HostState.ACTIVATING)
    due = NOW + timedelta(minutes=1) + GRACE

    view.set_rollout(rollout_of(terms, standings={"web-1": Standing.AWAY}))
    assert [each.hostname for each in overdue_hosts(view, due)] == ["web-2"]
    view.set_rollout(rollout_of(terms, RolloutState.TERMINAL))
    assert list(overdue_hosts(view, due)) == []
