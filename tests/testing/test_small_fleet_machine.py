"""The machine of a small fleet reaches what policies allow, and a check of its user finds a fault in each of it."""

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import OnDrift, RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry, Tolerance
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.drift import drift_change
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.members import members_change
from nixfleet_state_machine.planner.standings import heard_again
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.effect import RolloutEffect
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    HostsLapsed,
    MembersChanged,
    RetryOrdered,
    RolloutEvent,
    StandingChanged,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.machines import SmallFleetMachine
from tests.explore import planted

SETTINGS = settings(
    max_examples=60,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    deadline=None,
    derandomize=True,
    database=None,
)

TOLERANT = RolloutTerms.build(
    "stable@r1",
    {"db-01": "one", "web-01": "one", "web-02": "one", "web-03": "one"},
    waves=[("db-01", "web-01"), ("web-02", "web-03")],
    host_edges=[("db-01", "web-01")],
    tolerances=(Tolerance(1), Tolerance(1)),
    deadlines=Deadlines(Deadline(1, AtDeadline.SKIP), Deadline(1, AtDeadline.FAIL)),
    retry=Retry(attempts=2, backoff_seconds=0),
    on_drift=OnDrift.RESTORE,
)


class TolerantFleet(SmallFleetMachine):
    """A fleet of its user: in each wave one host may fail, each tries twice, and drifts are restored."""

    @initialize(policy=st.builds(RolloutPolicy, st.sampled_from(OnHealthFailure)))
    def _begin(self, policy: RolloutPolicy) -> None:
        self.begin((TOLERANT,), policy)


LENGTHS = (30, 40, 50, 60)
"""Steps of a history. What depends on chance is looked for in longer ones too before it counts as missing."""

WANTED = {
    "HostsLapsed away",
    "HostsLapsed lapsed",
    "StandingChanged excused",
    "StandingChanged away",
    "StandingChanged skipped",
    "StandingChanged counted",
    "StandingChanged late",
    "RetryOrdered its back-off is over",
    "RetryOrdered ada: disk replaced",
    "RetryOrdered it runs changed-by-hand",
    "MembersChanged",
    "HostDrifted",
    "DriftEnded",
    "WaveBroken",
}


class Noting(TolerantFleet):
    """Notes what happened, in all histories together."""

    seen: ClassVar[set[str]] = set()

    def check_event(self, before: RolloutRecord, event: RolloutEvent, after: RolloutRecord) -> None:
        super().check_event(before, event, after)
        self.seen.add(_words(event))


def test_deadlines_attempts_standings_members_and_drifts_are_reached() -> None:
    """By the time, by operators, by hosts and by CI: histories are drawn, longer and longer, until all was seen."""
    Noting.seen.clear()
    for steps in LENGTHS:
        if WANTED - Noting.seen:
            run_state_machine_as_test(Noting, settings=_of_length(steps))
    assert not WANTED - Noting.seen


def _of_length(steps: int) -> settings:
    return settings(SETTINGS, stateful_step_count=steps)


def _words(event: RolloutEvent) -> str:
    name = type(event).__name__
    match event:
        case StandingChanged() | HostsLapsed():
            return f"{name} {event.standing}"
        case RetryOrdered():
            return f"{name} {event.reason}"
        case _:
            return name


class Checking(TolerantFleet):
    """The checks of a user, from the specification of policies."""

    def check_event(self, before: RolloutRecord, event: RolloutEvent, after: RolloutRecord) -> None:
        super().check_event(before, event, after)
        terms = self.view.terms(before.rollout_id)
        if isinstance(event, RetryOrdered) and event.reason == "its back-off is over":
            assert event.attempt <= terms.retry.attempts, "attempts"
        if isinstance(event, StandingChanged) and event.standing is Standing.COUNTED:
            waves = [terms.wave_of.get(host, before.current_wave) for host in event.hosts]
            is_over = before.state is RolloutState.TERMINAL
            assert not is_over, "standing"
            assert min(waves) >= before.current_wave, "standing"
        if isinstance(event, HostDrifted):
            host = self.view.host(before.rollout_id, event.host_id)
            assert host is not None, "drift"
            assert host.state is HostState.CONVERGED, "drift"


def late_hosts_count_again() -> ReducerSet:
    """A host that comes after its wave was done counts in it, whether it reports or is only heard of."""

    def faulty(
        view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
    ) -> StandingChanged | None:
        event = heard_again(view, rollout_id, hostname, now)
        return None if event is None else evolve(event, standing=Standing.COUNTED)

    return evolve(planted.late_hosts_count_again(), heard_again=faulty)


def lapses_change_nothing() -> ReducerSet:
    """A host that was silent past its deadline counts as before, and lapses again and again."""

    def faulty(
        record: RolloutRecord, event: RolloutEvent, now: datetime
    ) -> tuple[RolloutRecord, tuple[RolloutEffect, ...]]:
        return (record, ()) if isinstance(event, HostsLapsed) else step_rollout(record, event, now)

    return ReducerSet(step_rollout=faulty)


def every_host_drifts() -> ReducerSet:
    """A host that does not run its target has drifted, whatever it is at."""

    def faulty(
        view: FleetView, rollout_id: RolloutId, hostname: str, running: str, now: datetime
    ) -> HostDrifted | DriftEnded | None:
        record = view.host(rollout_id, hostname)
        if record is not None and running != record.target_closure:
            return HostDrifted(rollout_id, hostname, running, now)
        return drift_change(view, rollout_id, hostname, running, now)

    return ReducerSet(drift_change=faulty)


def nobody_leaves() -> ReducerSet:
    """An amended manifest adds hosts, and removes none."""

    def faulty(
        before: RolloutTerms, after: RolloutTerms, record: RolloutRecord, now: datetime
    ) -> MembersChanged | None:
        event = members_change(before, after, record, now)
        return None if event is None else evolve(event, left=())

    return ReducerSet(members_change=faulty)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (planted.attempts_have_no_end, "attempts"),
        (late_hosts_count_again, "standing"),
        (lapses_change_nothing, "due again"),
        (every_host_drifts, "drift"),
        (nobody_leaves, "members"),
    ],
)
def test_a_fault_in_a_decision_is_found_by_a_check(
    fault: Callable[[], ReducerSet], found: str
) -> None:
    """A machine with other decisions is a subclass with another `reducers`."""

    class Faulty(Checking):
        reducers = fault()

    with pytest.raises(AssertionError) as failure:
        _run(Faulty)
    assert found in str(failure.value)


def _run(machine: type[SmallFleetMachine]) -> None:
    for steps in LENGTHS:
        run_state_machine_as_test(machine, settings=_of_length(steps))


def test_the_checks_that_find_faults_hold_for_the_decisions_of_production() -> None:
    """What is found above is the fault, and not the check."""
    run_state_machine_as_test(
        Checking, settings=settings(SETTINGS, max_examples=50, stateful_step_count=30)
    )
