"""Standings, attempts and broken waves: what each of their events does to a rollout in each state."""

from collections.abc import Mapping

import pytest
from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine import HostState, IllegalForRolloutState, RolloutRecord, RolloutState
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition, SchedulePruning
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    MembersChanged,
    RetryOrdered,
    RolloutEvent,
    Stage,
    StandingChanged,
    WaveBroken,
)
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import Standing
from nixfleet_testing.samples import AT, NOW, ROLLOUT, host_now, rollouts

ROLLOUTS: Mapping[str, RolloutRecord] = rollouts()
GOING = sorted(
    title
    for title, record in ROLLOUTS.items()
    if record.state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED)
)
AWAY = HostsLapsed(ROLLOUT, ("web-01",), Stage.ACK, Standing.AWAY, AT)
BROKEN = WaveBroken(ROLLOUT, 0, failed=2, allowed=1, absent=0, at=AT)
RETRY = RetryOrdered(ROLLOUT, ("web-01", "web-02"), 3, "its back-off is over", AT)
LATE = StandingChanged(ROLLOUT, ("web-01", "web-02"), Standing.LATE, "it reported again", AT)
MEMBERS = MembersChanged(ROLLOUT, ("web-03", "web-04"), ("web-01",), ("web-04",), AT)


@pytest.mark.parametrize("title", GOING)
@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.LAPSED])
def test_hosts_that_lapse_have_the_standing_of_the_deadline(title: str, standing: Standing) -> None:
    """In every state but the last two, and the state stays."""
    before = ROLLOUTS[title]
    after, effects = step_rollout(before, evolve(AWAY, standing=standing), NOW)

    assert after == before.with_standings(["web-01"], standing)
    assert effects == ()


@pytest.mark.parametrize("title", GOING)
@pytest.mark.parametrize("standing", Standing)
def test_a_change_of_standing_is_noted_for_each_host(title: str, standing: Standing) -> None:
    """Hosts that are counted have no entry."""
    before = ROLLOUTS[title]
    after, effects = step_rollout(before, evolve(LATE, standing=standing), NOW)

    assert {after.standing_of(host) for host in LATE.hosts} == {standing}
    assert ("web-01" in after.standings) is (standing is not Standing.COUNTED)
    assert (after.state, effects) == (before.state, ())


@pytest.mark.parametrize("title", GOING)
def test_a_retry_gives_its_hosts_their_attempt(title: str) -> None:
    """Those of other hosts stay; after the end they come late."""
    before = evolve(ROLLOUTS[title], attempts=FrozenMap({"web-02": 2, "web-03": 2}))
    after, effects = step_rollout(before, RETRY, NOW)

    expected = evolve(before, attempts=FrozenMap({"web-01": 3, "web-02": 3, "web-03": 2}))
    if before.state is RolloutState.TERMINAL:
        expected = expected.with_standings(RETRY.hosts, Standing.LATE)
    assert after == expected
    assert effects == ()


@pytest.mark.parametrize("title", GOING)
def test_a_change_of_members_counts_who_joined_and_not_who_left(title: str) -> None:
    """Who joined a wave that was done is late."""
    before = ROLLOUTS[title].with_standings(["web-03"], Standing.LEFT)
    after, effects = step_rollout(before, MEMBERS, NOW)

    standings = [after.standing_of(f"web-0{number}") for number in (1, 3, 4)]
    assert standings == [Standing.LEFT, Standing.COUNTED, Standing.LATE]
    assert effects == ()


@pytest.mark.parametrize("title", GOING)
def test_no_attempt_is_ordered_any_more_of_who_left(title: str) -> None:
    """Another machine may join under the name; what was ordered of the others stands."""
    ordered = FrozenMap({"web-01": 2, "web-02": 3})
    before = evolve(ROLLOUTS[title], attempts=ordered)
    after, _ = step_rollout(before, MEMBERS, NOW)

    assert after.attempts == FrozenMap({"web-02": 3})


@pytest.mark.parametrize("title", ["active", "active, wave 1", "converging"])
def test_a_broken_wave_halts_a_rollout_that_goes_on(title: str) -> None:
    """It is Failed, notes when, and may be pruned after its retention."""
    before = ROLLOUTS[title]
    after, effects = step_rollout(before, BROKEN, NOW)

    assert after == evolve(before, state=RolloutState.FAILED, broken_at=AT)
    moved = RecordRolloutTransition(ROLLOUT, before.state, RolloutState.FAILED, AT)
    assert effects == (moved, SchedulePruning(ROLLOUT, int(before.retention.total_seconds())))


@pytest.mark.parametrize("title", ["terminal", "failed", "reverted", "superseded"])
def test_a_broken_wave_changes_nothing_where_nothing_goes_on(title: str) -> None:
    """What is halted or over stays as it is."""
    assert step_rollout(ROLLOUTS[title], BROKEN, NOW) == (ROLLOUTS[title], ())


def test_a_broken_wave_before_any_host_joined_is_refused() -> None:
    """Nobody has acted yet."""
    with pytest.raises(IllegalForRolloutState):
        step_rollout(ROLLOUTS["opening"], BROKEN, NOW)


@pytest.mark.parametrize(
    "event", [AWAY, LATE, RETRY, MEMBERS], ids=lambda event: type(event).__name__
)
def test_a_superseded_rollout_changes_no_more(event: RolloutEvent) -> None:
    """Its successor has the hosts."""
    assert step_rollout(ROLLOUTS["superseded"], event, NOW) == (ROLLOUTS["superseded"], ())


@pytest.mark.parametrize(
    "event", [AWAY, LATE, RETRY, MEMBERS, BROKEN], ids=lambda event: type(event).__name__
)
def test_a_pruned_rollout_takes_none_of_them(event: RolloutEvent) -> None:
    """Nothing is kept of it but its record."""
    with pytest.raises(IllegalForRolloutState):
        step_rollout(ROLLOUTS["pruned"], event, NOW)


@pytest.mark.parametrize("title", ["active", "active, wave 1", "converging"])
@pytest.mark.parametrize("state", [HostState.FAILED, HostState.REVERTED])
def test_a_failure_in_a_tolerant_wave_does_not_halt_by_itself(title: str, state: HostState) -> None:
    """Only a broken wave does."""
    before = ROLLOUTS[title]

    assert step_rollout(before, host_now(state, AT, is_tolerant=True), NOW) == (before, ())


def test_a_rollback_in_a_tolerant_wave_makes_a_failed_rollout_reverted() -> None:
    """The state says what became of it, whatever halted it."""
    after, _ = step_rollout(
        ROLLOUTS["failed by a wave"], host_now(HostState.REVERTED, AT, is_tolerant=True), NOW
    )

    assert after.state is RolloutState.REVERTED


def test_a_standing_that_does_not_change_makes_no_new_record() -> None:
    """So the view has nothing to count again."""
    record = ROLLOUTS["active, with one away"]

    assert record.with_standings(["web-01"], Standing.AWAY) is record
    assert record.with_standings(["web-09"], Standing.COUNTED) is record


def test_the_excused_hosts_are_those_with_that_standing() -> None:
    """The older name is a view on the standings."""
    record = ROLLOUTS["active"].with_standings(["web-01", "web-02"], Standing.EXCUSED)

    assert record.with_standings(["web-02"], Standing.AWAY).excused_hosts == {"web-01"}


@pytest.mark.parametrize(
    ("standing", "properties"),
    [
        (Standing.COUNTED, {"counted"}),
        (Standing.EXCUSED, set[str]()),
        (Standing.SKIPPED, {"absent", "given back", "served late"}),
        (Standing.AWAY, {"silent", "absent", "given back"}),
        (Standing.LAPSED, {"counted", "silent", "given back"}),
        (Standing.LATE, {"served late"}),
        (Standing.LEFT, set[str]()),
    ],
)
def test_what_a_standing_means(standing: Standing, properties: set[str]) -> None:
    """Each is counted or not, silent or not, and served after the end or not."""
    found = {
        "counted": standing.is_counted,
        "silent": standing.is_silent,
        "absent": standing.is_absent,
        "given back": standing.is_given_back,
        "served late": standing.is_served_late,
    }

    assert {name for name, holds in found.items() if holds} == properties


@pytest.mark.parametrize("state", RolloutState)
def test_a_terminal_rollout_is_served_though_it_is_not_live(state: RolloutState) -> None:
    """Every live one is served, and of those that are over it alone."""
    assert state.is_served is (state.is_live or state is RolloutState.TERMINAL)
