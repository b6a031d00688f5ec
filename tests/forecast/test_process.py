"""The process that forecasts: what it reads, how far it says it is, and that it is the same for every kind of store."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from nixfleet_control_plane.config import ForecastConfig
from nixfleet_control_plane.config_store import StoreConfig, load_store_config, sqlite_config
from nixfleet_control_plane.forecaster import NoForecast, forecasting
from nixfleet_control_plane.reading.stored_log import followed
from nixfleet_forecast.process import Questions, Reading, answered
from nixfleet_proto.codec import format_time
from nixfleet_runtime.http.forecasts import FORECAST
from tests.cli.test_plugged_store import CONFIG, OWNED, SHOWN, rows_of, write_log
from tests.engines.likeness import likeness
from tests.engines.releases import START
from tests.engines.scratch import scratch_directory
from tests.forecast.fleets import SlowFleet, lived, read_from
from tests.support.installed import install, use

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Processes are asked under the loop that the control plane runs on."""
    return "asyncio"


@pytest.fixture(scope="module")
def fleet() -> Iterator[SlowFleet]:
    """A fleet with a release under way."""
    with scratch_directory() as directory, closing(lived(directory, releases=1)) as made:
        made.publish("r2")
        made.pass_time(minutes=2)
        yield made


@pytest.fixture
def plugged(fleet: SlowFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreConfig:
    """The store of the embedding page, with the log of `fleet`, for this process and those that it starts."""
    modules = {name: SHOWN[name] for name in ("file_store", "file_plugin")} | {"owned": OWNED}
    points = "file = file_plugin:store\nowned = owned:store"
    site = install(tmp_path / "site", "plugged", modules, {"nixfleet.stores": points})
    use(monkeypatch, site)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)
    write_log(tmp_path, rows_of(fleet.database))
    file = tmp_path / "control-plane.toml"
    file.write_text(CONFIG.replace('path = "log"', f'path = "{tmp_path}/log"'))
    return load_store_config(file, {})


def test_a_log_is_read_a_little_at_a_time_and_forecast_as_when_it_is_read_at_once(
    fleet: SlowFleet,
) -> None:
    """Until its end it says how much of it is read, which only grows."""
    shares = list[float]()
    with followed(sqlite_config(fleet.database).following()) as log:
        reading = Reading(log)
        while not reading.read(0.0):
            said = json.loads(reading.progress())["reading"]
            shares.append(said["read"] / said["toRead"])
            assert said["seconds"] >= 1
        answer = answered(reading.history, _question(fleet))

    whole = read_from(fleet.database)
    assert len(shares) == 2 * whole.head_seq
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert FORECAST.decode(answer).rollouts == whole.forecast(fleet.now).rollouts


def test_a_log_that_grew_is_read_on_from_its_last_row() -> None:
    """What was read stays read."""
    with scratch_directory() as directory, closing(lived(directory, releases=1)) as fleet:
        with followed(sqlite_config(fleet.database).following()) as log:
            reading = Reading(log)
            assert reading.read(60.0)
            before = reading.history
            head = before.head_seq
            fleet.publish("r2")
            fleet.pass_time(minutes=2)
            assert not reading.read(0.0)
            assert before.head_seq == head + 1
            assert reading.read(60.0)

        assert reading.history is before
        assert before.head_seq == read_from(fleet.database).head_seq > head


def test_a_question_that_comes_in_pieces_is_one_question() -> None:
    """And two that come at once are two."""
    receive, send = os.pipe()
    questions = Questions(receive)

    assert not questions.is_waiting(0)
    for piece in (b'{"at"', b": 1}\n{}\n"):
        os.write(send, piece)
        assert questions.is_waiting(0)
    assert [questions.next(), questions.is_waiting(0), questions.next()] == [
        b'{"at": 1}',
        True,
        b"{}",
    ]
    os.close(send)
    assert questions.is_waiting(0)
    assert questions.next() is None
    os.close(receive)


async def test_a_store_that_is_a_plug_in_has_forecasts(
    plugged: StoreConfig, fleet: SlowFleet
) -> None:
    """Those of the database with the same log, from a process that opens the store by its configuration."""
    head = read_from(fleet.database).head_seq
    async with forecasting(
        ForecastConfig(), plugged, lambda: head, lambda: fleet.now
    ) as forecaster:
        with anyio.fail_after(60):
            found = await forecaster.forecast()

    assert found.rollouts == read_from(fleet.database).forecast(fleet.now).rollouts


async def test_a_store_that_only_its_control_plane_can_read_has_none(
    plugged: StoreConfig, tmp_path: Path
) -> None:
    """The answer says what its opener lacks."""
    file = tmp_path / "owned.toml"
    file.write_text(CONFIG.replace('kind = "file"', 'kind = "owned"'))
    owned = load_store_config(file, {})
    async with forecasting(ForecastConfig(), owned, lambda: 0, lambda: START) as forecaster:
        with pytest.raises(NoForecast, match="expected an opener with `following` or `reading`"):
            await forecaster.forecast()


def _question(fleet: SlowFleet) -> bytes:
    return json.dumps({"at": format_time(fleet.now)}).encode()


def test_a_plan_leaves_the_log_as_it_was_read(fleet: SlowFleet) -> None:
    """The process is asked for forecasts afterwards: they are the same, and so is a second plan."""
    history = read_from(fleet.database)
    before, known = likeness(history.subject.state), history.forecast(fleet.now)

    first, second = (answered(history, _plan(fleet, "r9")) for _ in range(2))

    assert first == second
    assert {it.rollout_id for it in FORECAST.decode(first).rollouts} == {"stable@r9"}
    assert likeness(history.subject.state) == before
    assert history.forecast(fleet.now) == known


def test_a_release_that_is_in_force_or_does_not_fit_together_is_not_planned(
    fleet: SlowFleet,
) -> None:
    """The answer says why, and nothing is changed by what was tried."""
    history = read_from(fleet.database)
    before = likeness(history.subject.state)
    other = json.loads(_plan(fleet, "r9"))
    other["release"]["fleet"] = json.loads(_plan(fleet, "r8"))["release"]["fleet"]

    in_force = json.loads(answered(history, _plan(fleet, "r2")))
    unfit = json.loads(answered(history, json.dumps(other).encode()))

    assert "found stable@r2, which the log has" in in_force["refused"]
    assert unfit["refused"].startswith("its artefacts do not fit together: ")
    assert likeness(history.subject.state) == before


def test_a_forecast_for_which_there_is_no_time_says_so(fleet: SlowFleet) -> None:
    """Few runs tell no range; enough of them do, though more were wanted."""
    history = read_from(fleet.database)
    before = likeness(history.subject.state)

    none = history.forecast(fleet.now, is_late=lambda: True)
    some = history.forecast(fleet.now, is_late=_after(runs=7))

    assert none.runs == 0
    assert none.unknown is not None
    assert "expected at least 5 runs of the 10 hosts that are not done" in none.unknown
    assert some.unknown is None
    assert 5 <= some.runs < 60
    assert likeness(history.subject.state) == before


def _after(runs: int) -> Callable[[], bool]:
    """Return a clock that runs out while about so many runs are made: it is looked at with each step."""
    left = iter(range(runs * 80))
    return lambda: next(left, None) is None


def _plan(fleet: SlowFleet, ref: str) -> bytes:
    release = fleet.ci.release(fleet.layout, ref, fleet.now)
    texts = {
        "fleet": release.fleet.artefact.decode(),
        "manifests": [it.artefact.decode() for it in release.manifests],
    }
    return json.dumps({"at": format_time(fleet.now), "release": texts}).encode()
