"""Studies: the fleet of the past, what a release changed, a back-test of its policy, the chain; by the log alone."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from attrs import evolve

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_control_plane.config import ForecastConfig
from nixfleet_control_plane.config_store import sqlite_config
from nixfleet_control_plane.forecaster import (
    ForecastProcess,
    NoForecast,
    StudyImpossible,
    forecast_command,
    forecasting,
)
from nixfleet_control_plane.history.proofs import row_hashes
from nixfleet_control_plane.overview.rollouts import rollout_overviews
from nixfleet_control_plane.reading.stored_log import StoredLog, followed
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.studies.answer import chain
from nixfleet_forecast.studies.backtest import back_tested
from nixfleet_forecast.studies.changes import changes_of
from nixfleet_forecast.studies.past import past_at
from nixfleet_forecast.studies.refusal import StudyRefused
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.studies import CHAIN, PAST
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.releases import START
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, TWO_WAVES, SlowFleet, lived, read_from

R2, R3 = RolloutId("stable@r2"), RolloutId("stable@r3")
ZONES = SystemZones()


@pytest.fixture
def anyio_backend() -> str:
    """Processes are asked under the loop that the control plane runs on."""
    return "asyncio"


@pytest.fixture(scope="module")
def fleet() -> Iterator[SlowFleet]:
    """Two releases of two waves converged; the third has one wave, and failed on a host."""
    with scratch_directory() as directory, closing(lived(directory)) as made:
        made.behaviour = Behaviour(
            probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
        )
        made.layout = evolve(TWO_WAVES, waves=(TEN,))
        made.publish("r3")
        made.pass_time(minutes=20)
        yield made


@pytest.fixture(scope="module")
def log(fleet: SlowFleet) -> Iterator[StoredLog]:
    """Its log, as a process beside the control plane reads it."""
    with followed(sqlite_config(fleet.database).following()) as it, it.look() as stored:
        yield stored


def test_the_past_is_what_the_control_plane_showed_then(fleet: SlowFleet, log: StoredLog) -> None:
    """At the last row, all sentences and numbers are those of the state now; before, those of then."""
    state = read_from(fleet.database).subject.state
    now = past_at(log, state.head_seq, ZONES)
    assert now.overview.rollouts == rollout_overviews(
        state,
        ZONES,
        now.at,
        {it.rollout_id: it.stale_at for it in now.overview.rollouts if it.stale_at is not None},
    )
    assert now.head == now.seq == state.head_seq

    opened = next(row.seq for row in log.rows() if row.rollout_id == R2)
    then = past_at(log, opened, ZONES)
    assert then.seq == opened
    assert R3 not in [it.rollout_id for it in then.overview.rollouts]
    (map_of_r1,) = (it for it in then.hosts if it.rollout_id == "stable@r1")
    assert map_of_r1.names == tuple(sorted(TEN[:3])) + tuple(sorted(TEN[3:]))
    converged = str(map_of_r1.state_names.index("Converged"))
    assert map_of_r1.states == converged * 10


@pytest.mark.parametrize("seq", [0, 10**6])
def test_a_row_that_the_log_does_not_have_is_refused(log: StoredLog, seq: int) -> None:
    """The rows that it has are named."""
    with pytest.raises(StudyRefused, match="expected a row from 1 to"):
        past_at(log, seq, ZONES)


def test_what_a_release_changed_is_what_a_comparison_of_the_two_says(log: StoredLog) -> None:
    """Against the release of its channel before; hosts that it touches by wave, and what it may cost."""
    found = changes_of(log, R3)
    assert found.before == R2
    assert [(it.wave, it.hosts, it.touched) for it in found.waves] == [(0, 10, 10)]
    assert (found.hosts, found.touched) == (10, 10)
    by_heading = {it.heading: it.lines for it in found.sections}
    assert by_heading["rollouts"] == ("stable@r3 succeeds stable@r2",)
    assert len(by_heading["hosts"]) == 10
    assert any("wave 1: none" in line for line in by_heading["waves"])
    assert found.worst_text.startswith(f"at worst {found.worst} of 10 hosts")


def test_the_first_release_has_none_before(log: StoredLog) -> None:
    """All its hosts are touched, and nothing is compared."""
    found = changes_of(log, RolloutId("stable@r1"))
    assert (found.before, found.touched, found.sections) == (None, 10, ())


def test_a_release_that_the_log_does_not_have_is_refused(log: StoredLog) -> None:
    """By name."""
    with pytest.raises(StudyRefused, match="stable@r9"):
        changes_of(log, RolloutId("stable@r9"))


def test_a_back_test_has_the_recorded_policies_beside_that_of_the_release(log: StoredLog) -> None:
    """The recorded ones end when they did. One wave instead of two: more hosts at once, and sooner over."""
    found = back_tested(log, R3, ZONES)
    recorded, other = found.policies
    assert (recorded.policy, other.policy) == ("recorded", "stable@r3")
    assert found.differing == ()
    assert found.kept == ()
    r1, r1_in_one_wave = recorded.rollouts[0], other.rollouts[0]
    assert r1.ended_at is not None
    assert r1_in_one_wave.ended_at is not None
    assert r1_in_one_wave.in_flight_max > r1.in_flight_max
    assert r1_in_one_wave.ended_at < r1.ended_at
    halted = other.rollouts[-1]
    assert (halted.rollout_id, halted.state, halted.harmed) == (R3, recorded.rollouts[-1].state, 1)
    assert halted.state in (RolloutState.FAILED, RolloutState.REVERTED)


def test_the_chain_has_the_hash_of_each_row_that_was_asked_for(
    fleet: SlowFleet, log: StoredLog
) -> None:
    """The hashes are made anew from the rows, and the sentence says up to which row they hold."""
    with closing(open_for_reading(fleet.database)) as connection:
        hashes = [it.hex() for it in row_hashes(read_log(connection))]
    found = chain(log, 3, 4)
    assert [(it.seq, it.hash) for it in found.hashes] == list(enumerate(hashes, 1))[3:7]
    assert (found.first, found.intact_to, found.broken_at) == (1, len(hashes), None)
    assert f"up to row {len(hashes)}" in found.text


@pytest.mark.anyio
async def test_a_process_of_its_own_answers_and_ends(fleet: SlowFleet) -> None:
    """Readers wait for each other; what the log does not have is told apart from what cannot be computed."""
    async with ForecastProcess(
        forecast_command(fleet.database), lambda: 0, lambda: START
    ) as process:
        past: dict[str, JsonValue] = {"study": "past", "row": 5}
        assert (await process.study(past, PAST)).seq == 5
        chained: dict[str, JsonValue] = {"study": "chain", "after": 0, "limit": 2}
        assert len((await process.study(chained, CHAIN)).hashes) == 2
        with pytest.raises(StudyImpossible, match="expected a row from 1"):
            await process.study({"study": "past", "row": 10**6}, PAST)
        assert process.pid is None, "the process of forecasts was not needed"


@pytest.mark.anyio
async def test_a_study_that_takes_too_long_is_ended(fleet: SlowFleet) -> None:
    """And says so; the next one is asked as ever."""
    async with ForecastProcess(
        forecast_command(fleet.database), lambda: 0, lambda: START, seconds_max=0.0
    ) as process:
        with pytest.raises(NoForecast, match="took longer than 0 s"):
            await process.study({"study": "past", "row": 5}, PAST)


@pytest.mark.anyio
async def test_a_control_plane_without_forecasts_has_no_studies(fleet: SlowFleet) -> None:
    """As it is configured."""
    config = sqlite_config(fleet.database)
    off = ForecastConfig(disabled=True)
    async with forecasting(off, config, lambda: 0, lambda: START) as forecaster:
        with pytest.raises(NoForecast, match="they are off"):
            await forecaster.study({"study": "past", "row": 5}, PAST)
