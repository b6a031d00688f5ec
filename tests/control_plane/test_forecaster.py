"""The process that forecasts, and `GET /v1/forecast`: bounded, shared, started again, and gone at the end."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from nixfleet_control_plane.config import ForecastConfig
from nixfleet_control_plane.config_store import StoreConfig, sqlite_config
from nixfleet_control_plane.forecaster import (
    Forecaster,
    ForecastProcess,
    NoForecast,
    NoForecaster,
    NoPlan,
    Question,
    StudyImpossible,
    forecast_command,
    forecasting,
)
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.steering.approval import WAVE_MAX
from nixfleet_runtime.config.plugins import STORES, Plugin
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST, Forecast
from nixfleet_runtime.http.plans import PLAN_BODY, PlanBody
from nixfleet_runtime.http.previews import Preview
from tests.engines.releases import START, Layout, Publisher
from tests.engines.scratch import scratch_directory
from tests.forecast.fleets import SlowFleet, lived, read_from
from tests.support.served_control_plane import READER_KEY, Site, site_with

T = TypeVar("T")
pytestmark = pytest.mark.anyio

ECHO = "import sys\nfor line in sys.stdin: print('{}', flush=True)"
STUBBORN = "import sys, time\nfor line in sys.stdin: time.sleep(600)"
READING = (
    "import sys\nfor line in sys.stdin: "
    'print(\'{"reading": {"read": 30, "toRead": 120, "seconds": 400}}\', flush=True)'
)
DYING = "import sys\nsys.stdin.readline()"


@pytest.fixture(scope="module")
def fleet() -> Iterator[SlowFleet]:
    """A fleet with a release under way."""
    with scratch_directory() as directory, closing(lived(directory, releases=1)) as made:
        made.publish("r2")
        made.pass_time(minutes=2)
        yield made


@pytest.fixture
def anyio_backend() -> str:
    """Processes are asked under the loop that the control plane runs on."""
    return "asyncio"


async def test_a_process_forecasts_from_the_database_and_follows_it(fleet: SlowFleet) -> None:
    """It says what the same log says in this process, and reads what came since."""
    head = read_from(fleet.database).head_seq

    async with ForecastProcess(
        forecast_command(fleet.database), lambda: head, lambda: fleet.now
    ) as forecaster:
        first = await forecaster.forecast()
        again = await forecaster.forecast()

    assert first == again
    assert first.rollouts == read_from(fleet.database).forecast(fleet.now).rollouts
    assert (first.head_seq, first.runs) == (head, 60)


async def test_readers_share_an_answer_while_the_log_does_not_grow() -> None:
    """One question is asked, for ten readers at once."""
    asked = "import sys\nfor n, _ in enumerate(sys.stdin): print(ANSWER % n, flush=True)"
    answer = (
        FORECAST.encode(Forecast(0, START, 0, ())).decode().replace('"headSeq":0', '"headSeq":%d')
    )
    head = [7]

    async with _made(asked.replace("ANSWER", repr(answer)), head) as forecaster:
        heads = list[int]()

        async def ask() -> None:
            heads.append((await forecaster.forecast()).head_seq)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)

    assert heads == [0] * 10


async def test_a_process_that_takes_too_long_is_killed_and_rests() -> None:
    """The answer says when to ask again: where a log takes too long to read, none is read over and over."""
    async with _made(STUBBORN, seconds_max=1.2) as forecaster:
        with pytest.raises(NoForecast, match="longer than") as first:
            await forecaster.forecast()
        assert forecaster.pid is None
        with pytest.raises(NoForecast, match="not started for") as second:
            await forecaster.forecast()

    assert first.value.retry_after_seconds == 6
    assert second.value.retry_after_seconds in (5, 6)  # From its start it would be 4 s at most.


async def test_a_process_that_still_reads_says_how_far_it_is_and_goes_on() -> None:
    """It is not killed, however long the log is; who asks is told when to ask again."""
    async with _made(READING) as forecaster:
        with pytest.raises(NoForecast, match="25 % of it is read") as refused:
            await forecaster.forecast()
        pid = forecaster.pid
        with pytest.raises(NoForecast, match="reads the log"):
            await forecaster.forecast()
        assert forecaster.pid == pid

    assert refused.value.retry_after_seconds == 60


async def test_a_process_that_ended_is_started_again_but_not_at_once() -> None:
    """A database that it cannot read would have it started over and over."""
    async with _made(DYING) as forecaster:
        with pytest.raises(NoForecast, match="ended") as first:
            await forecaster.forecast()
        with pytest.raises(NoForecast, match=r"not started for [1-5] s"):
            await forecaster.forecast()

    assert first.value.retry_after_seconds == 5


async def test_a_process_that_says_what_is_no_forecast_is_not_believed() -> None:
    """Its answer is read as strictly as one from the network."""
    async with _made(ECHO) as forecaster:
        with pytest.raises(NoForecast, match="gave no answer"):
            await forecaster.forecast()


async def test_a_question_that_is_given_up_leaves_no_answer_for_the_next_one() -> None:
    """The process is killed with the question that it was asked."""
    async with _made(STUBBORN) as forecaster:
        with anyio.move_on_after(0.2):
            await forecaster.forecast()
        assert forecaster.pid is None


async def test_at_the_end_the_process_is_gone(fleet: SlowFleet) -> None:
    """None outlives its control plane."""
    async with ForecastProcess(
        forecast_command(fleet.database), lambda: 0, lambda: fleet.now
    ) as forecaster:
        await forecaster.forecast()
        pid = forecaster.pid

    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


async def test_a_process_without_a_control_plane_ends(fleet: SlowFleet) -> None:
    """Its standard input ends with the control plane."""
    async with await anyio.open_process(forecast_command(fleet.database)) as process:
        assert process.stdin is not None
        await process.stdin.aclose()
        with anyio.fail_after(30):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("config", "store", "why"),
    [
        (ForecastConfig(disabled=True), sqlite_config(Path("db")), "disabled = true"),
        (
            ForecastConfig(),
            StoreConfig(Plugin(STORES, "pg"), sqlite_config(Path()).opener),
            "not read by",
        ),
    ],
)
async def test_without_a_process_it_is_said_why(
    config: ForecastConfig, store: StoreConfig, why: str
) -> None:
    """Nothing is to be asked again soon."""
    async with forecasting(config, store, lambda: 0, lambda: START) as forecaster:
        with pytest.raises(NoForecast, match=why) as refused:
            await forecaster.forecast()

    assert refused.value.retry_after_seconds is None


class _Given:
    """Gives what it was made with."""

    def __init__(self, forecast: Forecast | NoForecast) -> None:
        self._forecast = forecast

    async def forecast(self) -> Forecast:
        if isinstance(self._forecast, NoForecast):
            raise self._forecast
        return self._forecast

    async def preview(self, question: Question) -> Preview:
        if isinstance(self._forecast, NoForecast):
            raise self._forecast
        return Preview(0, START, (f"{question.command}",))

    async def plan(self, release: PlanBody) -> Forecast:
        if not release.manifests:
            raise NoPlan("it has no manifest")
        return await self.forecast()

    async def study(self, question: Mapping[str, JsonValue], coder: Coder[T]) -> T:
        raise StudyImpossible(f"it is not asked for {question['study']}")


@pytest.fixture
async def site(tmp_path: Path, fleet: SlowFleet) -> AsyncIterator[Site]:
    """A control plane that gives the fleet's forecast."""
    given = _Given(read_from(fleet.database).forecast(fleet.now))
    async with site_with(tmp_path, forecaster=given) as made:
        yield made


async def test_the_forecast_is_served_to_readers(site: Site) -> None:
    """As ranges, with the row and the time that it is of."""
    answer = await site.operate("GET", paths.FORECAST, name="bob", key=READER_KEY)

    assert answer.status_code == 200, answer.text
    (rollout,) = FORECAST.decode(answer.content).rollouts
    assert rollout.done.runs == 60


async def test_a_rollout_that_is_not_under_way_has_no_forecast(site: Site) -> None:
    """The rest of the answer is the fleet's."""
    answer = await site.operate("GET", f"{paths.FORECAST}?rollout=stable@r1")

    forecast = FORECAST.decode(answer.content)
    assert forecast.rollouts == ()
    assert forecast.stages


@pytest.mark.parametrize(
    ("given", "status", "retry"),
    [(NoForecast("it is busy", 7), 503, "7"), (NoForecast("they are off", None), 404, None)],
)
async def test_no_forecast_is_an_answer_with_its_reason(
    tmp_path: Path, given: NoForecast, status: int, retry: str | None
) -> None:
    """What is off stays off; what is busy is asked again."""
    async with site_with(tmp_path, forecaster=_Given(given)) as site:
        answer = await site.operate("GET", paths.FORECAST)
        meant = b'{"path": "/v1/channels/stable/pause", "body": {"reason": "why"}}'
        preview = await site.operate("POST", paths.PREVIEW, meant)

        release = Publisher().release(Layout(), "r9", START)
        sent = PlanBody(
            release.fleet.artefact.decode(),
            tuple(it.artefact.decode() for it in release.manifests),
        )
        plan = await site.operate("POST", paths.PLAN, PLAN_BODY.encode(sent))

    assert (preview.status_code, plan.status_code) == (status, status)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry)
    assert answer.json()["detail"] == given.why


@pytest.mark.parametrize("wave", [-1, WAVE_MAX + 1, 10**18])
async def test_a_statement_on_a_wave_that_cannot_be_is_refused_before_it_is_previewed(
    site: Site, wave: int
) -> None:
    """The process would end of it, and read the whole log again for the next reader."""
    path = "/v1/rollouts/stable@r2/approvals"
    meant = json.dumps({"path": path, "body": {"wave": wave, "decision": "approve"}}).encode()

    refused = await site.operate("POST", paths.PREVIEW, meant, name="bob", key=READER_KEY)

    assert refused.status_code == 422, refused.text
    assert "$.wave" in refused.text


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        (b'{"fleet": "{}", "manifests": []}', 409, "$.fleet: "),
        (b'{"fleet": "x", "manifests": ["y"]}', 409, "$.manifests[0]: "),
        (b'{"fleet": 7}', 422, "$.manifests"),
        (b"x" * 2_000_000, 413, "1048576"),
        (None, 409, "it has no manifest"),
    ],
)
async def test_what_is_no_release_is_not_planned(
    site: Site, body: bytes | None, status: int, found: str
) -> None:
    """It is read as strictly as a published one before the process is asked, which would end of it."""
    fleet = Publisher().release(Layout(), "r9", START).fleet.artefact.decode()
    sent = PLAN_BODY.encode(PlanBody(fleet, ())) if body is None else body

    refused = await site.operate("POST", paths.PLAN, sent, name="bob", key=READER_KEY)

    assert refused.status_code == status, refused.text
    assert found in refused.text


async def test_a_control_plane_without_a_forecaster_says_so(tmp_path: Path) -> None:
    """As in a program that embeds the application alone."""
    forecaster: Forecaster = NoForecaster("none here")
    async with site_with(tmp_path, forecaster=forecaster) as site:
        assert (await site.operate("GET", paths.FORECAST)).status_code == 404


def _made(
    program: str, head: list[int] | None = None, seconds_max: float = 30.0
) -> ForecastProcess:
    heads = head or [0]
    return ForecastProcess(
        (sys.executable, "-c", program), lambda: heads[0], lambda: START, seconds_max
    )
