"""The forecast for the HTTP API: computed by a process of its own, never on the loop of the control plane.

One process at a time, which follows the log by itself. It is started when the first question comes, gets one question
at a time, and is killed when it takes too long, when the question is given up, and at the end. While it reads a long
log for the first time it says how far it is, and goes on reading. Readers share an answer: one is given again while the
log has not grown, and on a busy fleet for five times as long as it took. One that takes too long is not asked for again
for five times as long. So a forecast takes a sixth of one processor at most, besides the reading.
Source: docs/spec/forecast.md, Its process.
"""

import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from math import ceil, inf
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import frozen

from nixfleet_control_plane.config import ForecastConfig
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_proto.codec import DecodeError, format_time
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.forecasts import FORECAST, Forecast
from nixfleet_runtime.http.plans import PlanBody
from nixfleet_runtime.http.previews import PREVIEW, Preview

T = TypeVar("T")
SECONDS_MAX: Final = 120.0
"""How long an answer may take. A log that takes longer to read is read on, and the answer says how far that is."""
STUDY_OPTION: Final = "--study"
_IMPOSSIBLE: Final = b'{"impossible":'
_STUDIES_MAX: Final = 8
"""How many studies are asked for at the same time, with the one that is made."""
_READING: Final = b'{"reading":'
_REFUSED: Final = b'{"refused":'
_READING_SECONDS_MAX: Final = 60
_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_WAITING_MAX: Final = 32
_SAME_SECONDS_MAX: Final = 60.0
_SHARE: Final = 5
_RESTART_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class NoForecast(NixfleetError):
    """There is no forecast now. Attributes: `why`, `retry_after_seconds` (`None`: not before the configuration
    changes).
    """

    def __init__(self, why: str, retry_after_seconds: int | None) -> None:
        super().__init__(why, retry_after_seconds)
        self.why = why
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.why


class NoPlan(NixfleetError):
    """The release cannot be planned. Attributes: `why`, for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


class StudyImpossible(NixfleetError):
    """The log does not have what a study is asked about. Attributes: `why`, for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return self.why


@frozen
class Question:
    """What a command, a statement or an order would do is asked: one of them.

    command: as the log spells it. heard: when hosts that it names were heard of last.
    """

    command: OperatorCommand | None = None
    statement: Mapping[str, JsonValue] | None = None
    order: Mapping[str, JsonValue] | None = None
    heard: Mapping[str, datetime] = FrozenMap()

    def as_json(self, now: datetime) -> dict[str, JsonValue]:
        """Return the question as the process reads it."""
        heard: dict[str, JsonValue] = {host: format_time(at) for host, at in self.heard.items()}
        if self.command is not None:
            return {"command": row_of(1, now, Commanded(self.command)).payload, "heard": heard}
        if self.order is not None:
            return {"order": dict(self.order)}
        return {"statement": dict(self.statement or {}), "heard": heard}


class Forecaster(Protocol):
    """Gives the forecast of the whole fleet, previews of commands, and plans of releases."""

    async def plan(self, release: PlanBody) -> Forecast:
        """Return what is to come if a release were published now. Raises: NoPlan, NoForecast."""
        ...

    async def preview(self, question: Question) -> Preview:
        """Return what a command would do. Raises: NoForecast."""
        ...

    async def forecast(self) -> Forecast:
        """Return what is to come. Raises: NoForecast."""
        ...

    async def study(self, question: Mapping[str, JsonValue], coder: Coder[T]) -> T:
        """Return what is found by reading the log once more. Raises: NoForecast, StudyImpossible."""
        ...


@frozen
class NoForecaster:
    """Gives none. why: for people."""

    why: str

    async def forecast(self) -> Forecast:
        """Raise. Raises: NoForecast."""
        raise NoForecast(self.why, None)

    async def preview(self, question: Question) -> Preview:
        """Raise. Raises: NoForecast."""
        raise NoForecast(self.why, None)

    async def plan(self, release: PlanBody) -> Forecast:
        """Raise. Raises: NoForecast."""
        raise NoForecast(self.why, None)

    async def study(self, question: Mapping[str, JsonValue], coder: Coder[T]) -> T:
        """Raise. Raises: NoForecast."""
        raise NoForecast(self.why, None)


@asynccontextmanager
async def forecasting(
    config: ForecastConfig,
    store: StoreConfig,
    head_seq: Callable[[], int],
    now: Callable[[], datetime],
) -> AsyncIterator[Forecaster]:
    """Give what computes forecasts of the fleet in `store`; at the end its process is gone.

    head_seq, now: as for `ForecastProcess`.
    """
    if config.disabled:
        yield NoForecaster("they are off: `[forecast] disabled = true`")
    elif (command := _command_of(store)) is None:
        yield NoForecaster(
            f"{store.where} is not read by the process that computes them: expected an opener with `following` or "
            "`reading`, and a configuration that names it"
        )
    else:
        async with ForecastProcess(command, head_seq, now) as forecaster:
            yield forecaster


def forecast_command(*store: str | Path) -> tuple[str, ...]:
    """Return the command of the process that forecasts from `store`: a database, or `--config` and its file."""
    return sys.executable, "-m", "nixfleet_forecast.process", *map(str, store)


def _command_of(store: StoreConfig) -> tuple[str, ...] | None:
    """Return the command for a store; `None`: no other process can read it."""
    if store.path is not None:
        return forecast_command(store.path)
    if store.config_file is None or not store.is_read_beside:
        return None
    return forecast_command("--config", store.config_file)


@frozen
class _Answered:
    """An answer, when it came by the monotonic clock, how long it took, and the last row when it was asked for."""

    forecast: Forecast
    at_seconds: float
    took_seconds: float
    head_seq: int


class ForecastProcess:
    """A `Forecaster` that asks a process. An asynchronous context: at its end the process is gone.

    command: what runs it. head_seq: the last durable row of the log. now: the fleet's time.
    """

    def __init__(
        self,
        command: Sequence[str],
        head_seq: Callable[[], int],
        now: Callable[[], datetime],
        seconds_max: float = SECONDS_MAX,
    ) -> None:
        self._command = tuple(command)
        self._head_seq = head_seq
        self._now = now
        self._seconds_max = seconds_max
        self._one_at_a_time = anyio.Lock()
        self._waiting = 0
        self._one_study = anyio.Lock()
        self._studies = 0
        self._process: anyio.abc.Process | None = None
        self._not_before = -inf
        self._last: _Answered | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    @property
    def pid(self) -> int | None:
        """The process that is asked; `None`: there is none now."""
        return None if self._process is None else self._process.pid

    async def forecast(self) -> Forecast:
        """Return what is to come, as of now or a short time ago. Raises: NoForecast."""
        async with self._turn():
            known = self._last
            if known is None or not self._is_good(known):
                began, head_seq = anyio.current_time(), self._head_seq()
                forecast = _read(FORECAST, await self._answer({}))
                ended = anyio.current_time()
                known = self._last = _Answered(forecast, ended, ended - began, head_seq)
            return known.forecast

    async def preview(self, question: Question) -> Preview:
        """Return what a command would do now. Raises: NoForecast."""
        async with self._turn():
            return _read(PREVIEW, await self._answer(question.as_json(self._now())))

    async def plan(self, release: PlanBody) -> Forecast:
        """Return what is to come if a release were published now. Raises: NoPlan, NoForecast."""
        asked: dict[str, JsonValue] = {"fleet": release.fleet, "manifests": [*release.manifests]}
        async with self._turn():
            line = await self._answer({"release": asked})
        if line.startswith(_REFUSED):
            raise NoPlan(json.loads(line)["refused"])
        return _read(FORECAST, line)

    async def study(self, question: Mapping[str, JsonValue], coder: Coder[T]) -> T:
        """Return what a process finds that is started for it, reads the log from its first row, and ends.

        Raises: NoForecast, StudyImpossible.
        """
        if self._studies >= _STUDIES_MAX:
            raise NoForecast(f"{self._studies} studies wait already", 5)
        self._studies += 1
        try:
            async with self._one_study:
                line = await self._studied(question)
        finally:
            self._studies -= 1
        if line.startswith(_IMPOSSIBLE):
            raise StudyImpossible(json.loads(line)["impossible"])
        return _read(coder, line)

    async def _studied(self, question: Mapping[str, JsonValue]) -> bytes:
        try:
            process = await anyio.open_process((*self._command, STUDY_OPTION), stderr=None)
        except OSError as error:
            raise NoForecast("the process that reads the log cannot be started", 60) from error
        try:
            with anyio.fail_after(self._seconds_max):
                return await _answer_of(process, question)
        except TimeoutError:
            why = f"reading the log took longer than {self._seconds_max:g} s"
            raise NoForecast(why, ceil(self._seconds_max)) from None
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound) as error:
            raise NoForecast("the process that reads the log ended", 60) from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise NoForecast("the process that reads the log ended", 60) from error
        finally:
            await _ended(process)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING_MAX:
            raise NoForecast(f"{self._waiting} requests wait for a forecast already", 5)
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                yield
        finally:
            self._waiting -= 1

    def _is_good(self, known: _Answered) -> bool:
        age_seconds = anyio.current_time() - known.at_seconds
        if age_seconds < _SHARE * known.took_seconds:
            return True
        return known.head_seq == self._head_seq() and age_seconds < _SAME_SECONDS_MAX

    async def _answer(self, question: Mapping[str, JsonValue]) -> bytes:
        process = await self._running()
        is_answered = False
        try:
            with anyio.fail_after(self._seconds_max):
                line = await _answer_of(process, {**question, "at": format_time(self._now())})
            is_answered = True
        except TimeoutError:
            # The next process reads the whole log again: it keeps to its share as well.
            rest_seconds = _SHARE * self._seconds_max
            self._not_before = max(self._not_before, anyio.current_time() + rest_seconds)
            why = f"it took longer than {self._seconds_max:g} s"
            raise NoForecast(why, ceil(rest_seconds)) from None
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound) as error:
            _log.warning("the process that forecasts ended, and is started again when asked")
            raise NoForecast("the process that computes it ended", 5) from error
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise NoForecast("the process that computes it ended", 5) from error
        finally:
            if not is_answered:  # Also where the question is given up: its answer would come next.
                await self._end()
        if line.startswith(_READING):
            raise _still_reading(line)
        return line

    async def _running(self) -> anyio.abc.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        now = anyio.current_time()
        if now < self._not_before:
            left_seconds = ceil(self._not_before - now)
            why = f"the process that computes it ended, and is not started for {left_seconds} s"
            raise NoForecast(why, left_seconds)
        self._not_before = now + _RESTART_SECONDS
        try:
            self._process = await anyio.open_process(self._command, stderr=None)
        except OSError as error:
            raise NoForecast("the process that computes it cannot be started", 60) from error
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _ended(process)


async def _ended(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def _answer_of(process: anyio.abc.Process, question: Mapping[str, JsonValue]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.send(json.dumps(question).encode() + b"\n")
    return await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", _ANSWER_BYTES_MAX)


def _still_reading(line: bytes) -> NoForecast:
    """Return what is said while the log is read: how far that is, and when to ask again."""
    said = json.loads(line)["reading"]
    share = 100 * said["read"] // max(said["toRead"], 1)
    seconds = min(max(said["seconds"], 1), _READING_SECONDS_MAX)
    return NoForecast(f"its process reads the log: {share} % of it is read", seconds)


def _read(coder: Coder[T], line: bytes) -> T:
    try:
        return coder.decode(line)
    except DecodeError as error:
        _log.warning("the process that forecasts said what is no %s: %s", coder.what, error)
        raise NoForecast("the process that computes it gave no answer", 60) from error
