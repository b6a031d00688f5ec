"""Forecasts of a fleet: ranges, what comes by the clock, who is the last, and what is not known."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_forecast.durations import OBSERVATIONS_MIN
from nixfleet_forecast.forecast import RUNS, RUNS_MIN, runs_for, span_of
from nixfleet_forecast.words import forecast_lines, headline, span_words
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.fleet import RolloutPolicy, Selector
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Tolerance
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_runtime.http.forecasts import FORECAST, Forecast, RolloutForecast, Span
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, TWO_WAVES, SlowFleet, lived, read_from


@pytest.fixture
def fleet() -> Iterator[SlowFleet]:
    """A fleet of ten hosts of three speeds, on which two releases converged."""
    with scratch_directory() as directory, closing(lived(directory)) as made:
        yield made


def _forecast(fleet: SlowFleet) -> tuple[Forecast, RolloutForecast]:
    forecast = read_from(fleet.database).forecast(fleet.now)
    (rollout,) = forecast.rollouts
    return forecast, rollout


def test_a_rollout_ends_within_the_range_that_it_was_given(fleet: SlowFleet) -> None:
    """Hosts behave as they did before, so the end is where the runs see it."""
    fleet.publish("r3")
    fleet.pass_time(minutes=2)
    _, rollout = _forecast(fleet)
    assert rollout.done.p10 is not None
    assert rollout.done.p90 is not None

    while fleet.rollout(RolloutId("stable@r3")).state is not RolloutState.TERMINAL:
        fleet.pass_time(minutes=0.5)

    assert rollout.done.p10 - timedelta(minutes=1) <= fleet.now
    assert fleet.now <= rollout.done.p90 + timedelta(minutes=1)


def test_a_forecast_leaves_the_state_as_it_was(fleet: SlowFleet) -> None:
    """Each run is taken back, so the same question has the same answer."""
    fleet.publish("r3")
    fleet.pass_time(minutes=2)
    history, untouched = read_from(fleet.database), read_from(fleet.database)

    first = history.forecast(fleet.now)

    assert history.subject.state.view == untouched.subject.state.view
    assert history.subject.state.dispatches == untouched.subject.state.dispatches
    assert history.subject.state.deferrals == untouched.subject.state.deferrals
    assert history.head_seq == untouched.head_seq
    assert FORECAST.encode(history.forecast(fleet.now)) == FORECAST.encode(first)


def test_another_seed_draws_other_durations(fleet: SlowFleet) -> None:
    """The ranges move a little: chance is an argument."""
    fleet.publish("r3")
    fleet.pass_time(minutes=1)
    history = read_from(fleet.database)

    spans = {history.forecast(fleet.now, seed=seed).rollouts[0].done for seed in range(6)}

    assert len(spans) > 1


def test_waves_follow_each_other_and_what_has_happened_is_told_as_it_was(fleet: SlowFleet) -> None:
    """A wave that began has no range for its beginning."""
    fleet.publish("r3")
    began_at = fleet.now
    fleet.pass_time(minutes=2)

    _, rollout = _forecast(fleet)

    first, second = rollout.waves
    assert (first.began_at, first.begins) == (began_at, None)
    assert first.ends is not None
    assert second.begins is not None
    assert second.ends is not None
    assert first.ends.p50 is not None
    assert second.begins.p50 is not None
    assert second.ends.p90 is not None
    assert first.ends.p50 <= second.begins.p50 < second.ends.p90


def test_below_five_observations_of_a_stage_nothing_is_said() -> None:
    """The answer names what is missing, and what is known."""
    with scratch_directory() as directory, closing(SlowFleet(directory, TWO_WAVES)) as fleet:
        fleet.publish("r1")
        fleet.pass_time(minutes=4)

        forecast, rollout = _forecast(fleet)

    assert forecast.runs == 0
    assert forecast.unknown is not None
    assert f"at least {OBSERVATIONS_MIN} observations" in forecast.unknown
    assert "of hosts that converged after its soak" in forecast.unknown
    assert {it.stage: it.observations for it in forecast.stages}[Stage.ACK] == 3
    assert rollout.done.runs == 0
    assert "not known" in headline(forecast, rollout)


def test_a_freeze_is_part_of_the_forecast(fleet: SlowFleet) -> None:
    """The second wave begins when it ends, and it is listed."""
    ends_at = fleet.now + timedelta(hours=5)
    freeze = CalendarEntry(
        "audit",
        CalendarKind.DENY,
        Selector(all=True),
        "UTC",
        "auditors are here",
        begins=f"{fleet.now + timedelta(minutes=4):%Y-%m-%dT%H:%M}",
        ends=f"{ends_at:%Y-%m-%dT%H:%M}",
    )
    fleet.publish("r3", evolve(TWO_WAVES, calendar=(freeze,)))
    fleet.pass_time(minutes=1)

    _, rollout = _forecast(fleet)

    second = rollout.waves[1].begins
    assert second is not None
    assert second.p10 == second.p90 == ends_at
    assert [it.at.p50 for it in rollout.edges if "ends the hold" in it.text] == [ends_at]


def test_a_bake_and_a_time_that_is_signed_are_waited_for(fleet: SlowFleet) -> None:
    """Both come by the clock, and a person is waited for by neither."""
    not_before = fleet.now + timedelta(hours=3)
    layout = evolve(
        TWO_WAVES,
        guards=(WaveGuards(), WaveGuards(bake_minutes=20)),
        not_before=(not_before, None),
    )
    fleet.publish("r3", layout)
    fleet.pass_time(minutes=1)

    _, rollout = _forecast(fleet)

    first, second = rollout.waves
    assert first.begins is not None
    assert first.begins.p50 == not_before
    assert first.ends is not None
    assert first.ends.p50 is not None
    assert second.begins is not None
    assert second.begins.p50 is not None
    bakes = second.begins.p50 - first.ends.p50
    assert timedelta(minutes=19) < bakes < timedelta(minutes=22)


def test_an_approval_gets_no_time(fleet: SlowFleet) -> None:
    """It is said who is waited for; the wave before has its range."""
    approvals = WaveGuards(approvals=Approvals(1, ("ada", "bob")))
    fleet.publish("r3", evolve(TWO_WAVES, guards=(WaveGuards(), approvals)))
    fleet.pass_time(minutes=1)

    forecast, rollout = _forecast(fleet)

    assert rollout.waves[0].ends is not None
    assert rollout.waves[0].ends.runs == forecast.runs
    assert rollout.done.runs == 0
    assert rollout.done.p50 is None
    (wait,) = [text for text in rollout.waits if "approv" in text]
    assert "wave 1 waits until a person approves" in wait
    assert "waits for one of ada, bob" in wait
    assert headline(forecast, rollout) == "it does not end by itself"


def test_a_host_that_is_away_is_named_and_widens_the_range(fleet: SlowFleet) -> None:
    """It waits longer than any did, so it may take as long again."""
    fleet.publish("r3")
    fleet.away(TEN[0])
    fleet.pass_time(minutes=90)

    forecast, rollout = _forecast(fleet)

    assert TEN[0] in [it.host for it in rollout.stragglers]
    assert "not acknowledged" in next(it.why for it in rollout.stragglers if it.host == TEN[0])
    assert [(it.host, it.stage) for it in forecast.slow] == [(TEN[0], Stage.ACK)]
    assert rollout.done.p10 is not None
    assert rollout.done.p90 is None or rollout.done.p90 - rollout.done.p10 > timedelta(hours=1)


def test_a_deadline_ends_the_wait_for_a_host(fleet: SlowFleet) -> None:
    """What follows from silence is an edge as any other."""
    layout = evolve(
        TWO_WAVES,
        policy=RolloutPolicy(deadlines=Deadlines(ack=Deadline(60, AtDeadline.SKIP))),
    )
    fleet.publish("r3", layout)
    began_at = fleet.now
    fleet.away(TEN[0])
    fleet.pass_time(minutes=45)

    _, rollout = _forecast(fleet)

    assert rollout.waves[1].begins is not None
    assert rollout.waves[1].begins.p90 is not None
    assert rollout.waves[1].begins.p90 <= began_at + timedelta(minutes=61)
    assert any("silent past the ack deadline" in it.text for it in rollout.edges)


def test_a_halted_rollout_has_no_end_and_no_forecast(fleet: SlowFleet) -> None:
    """An operator clears it; when, nothing says."""
    fleet.behaviour = Behaviour(
        probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    fleet.publish("r3")
    fleet.pass_time(minutes=20)

    forecast = read_from(fleet.database).forecast(fleet.now)

    assert forecast.rollouts == ()
    assert next(forecast_lines(forecast)).startswith("nothing is to come")


def test_a_failed_host_that_is_tolerated_is_settled(fleet: SlowFleet) -> None:
    """The rollout ends without it."""
    tolerant = evolve(TWO_WAVES, policy=RolloutPolicy(max_failures=1))
    assert tolerant.policy.tolerance == Tolerance(1)
    fleet.behaviour = Behaviour(
        probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    fleet.publish("r3", tolerant)
    fleet.pass_time(minutes=12)

    forecast, rollout = _forecast(fleet)

    assert rollout.done.runs == forecast.runs
    assert rollout.settled >= 1


def test_ranges_of_the_past_are_held_against_what_came() -> None:
    """Each end is forecast from what was known when its rollout opened."""
    with scratch_directory() as directory, closing(lived(directory, releases=5)) as fleet:
        fleet.publish("r6")
        fleet.pass_time(minutes=1)
        judged = [f"stable@r{number}" for number in range(1, 6)]

        calibration = read_from(fleet.database, judged).calibration

    assert calibration is not None
    assert calibration.ranges == 4  # Before the first one nothing was known.
    assert 0 < calibration.held <= 4


def test_runs_that_did_not_come_to_it_are_later_than_all_others() -> None:
    """With one of ten, P90 is not known; P10 and P50 are."""
    at = datetime(2026, 5, 16, tzinfo=UTC)
    times = [at + timedelta(minutes=number) for number in range(8)]

    span = span_of([*times, None, None], 10)

    assert span.runs == 8
    assert span.p10 is not None
    assert span.p50 is not None
    assert span.p90 is None
    assert span_of([None] * 10, 10).p10 is None


def test_large_fleets_are_run_less_often() -> None:
    """A forecast takes a bounded time."""
    assert runs_for(60) == RUNS
    assert runs_for(100_000) == RUNS_MIN
    assert runs_for(0) == RUNS


def test_a_range_within_one_minute_is_shown_as_that_minute() -> None:
    """Times are shown to the minute: a range from 12:00 to 12:00 says nothing."""
    noon = datetime(2026, 5, 16, 12, tzinfo=UTC)
    early, late = noon + timedelta(seconds=2), noon + timedelta(seconds=59)
    assert span_words(Span(60, early, early, late), 60) == "2026-05-16 12:00Z"
    later = span_words(Span(60, early, early, late + timedelta(seconds=1)), 60)
    assert later.startswith("between 2026-05-16 12:00Z and 2026-05-16 12:01Z")
