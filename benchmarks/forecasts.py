"""forecasts: a fleet of 60 hosts run forward 60 times, a log of 100,000 facts played again, and a look of a shadow.

The seconds are those of the processor: both are computed by a process of their own, at a low priority.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import process_time

from benchmarks.fleet import host_names, prepare_database
from benchmarks.harness import Figure, Scale, scratch
from benchmarks.life import T0
from benchmarks.logged import write_log
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.backtest.backtest import Play
from nixfleet_forecast.backtest.recording import Recording
from nixfleet_forecast.backtest.shadow import Shadow
from nixfleet_forecast.course import PastCourses
from nixfleet_forecast.forecast import RUNS, Subject, forecast
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.process import garbage

HOSTS = 60
FORECAST_SECONDS_AT_MOST = 4.0
BACKTEST_SECONDS_AT_MOST = 10.0
LOOK_SECONDS_AT_MOST = 6.0


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the seconds of a forecast and of a back-test."""
    garbage.collect_rarely()
    with scratch() as directory:
        hosts, runs = scale.pick(HOSTS, HOSTS, 3), scale.pick(RUNS, 20, 2)
        subject = _subject(directory, hosts, scale.pick(3_000, 3_000, 300))
        yield Figure(
            "forecasts",
            f"{hosts} hosts run forward {runs} times",
            "s",
            tuple(_seconds(lambda: forecast(subject, T0, runs=runs)) for _ in range(scale.rounds)),
            at_most=FORECAST_SECONDS_AT_MOST,
        )
    with scratch() as directory:
        database = directory / "log.sqlite"
        facts = write_log(database, scale.pick(100_000, 20_000, 100))
        yield Figure(
            "forecasts",
            f"back-test of {facts:,} facts",
            "s",
            tuple(_seconds(lambda: _backtest(database)) for _ in range(scale.rounds)),
            at_most=BACKTEST_SECONDS_AT_MOST,
        )
        shadow = _shadow(database)
        yield Figure(
            "forecasts",
            f"look of a shadow that has read {facts:,} facts",
            "s",
            tuple(
                _seconds(lambda: shadow.differences(lambda taken: taken))
                for _ in range(scale.rounds)
            ),
            at_most=LOOK_SECONDS_AT_MOST,
        )


def _seconds(work: object) -> float:
    assert callable(work)
    begun = process_time()
    work()
    return process_time() - begun


def _subject(directory: Path, hosts: int, facts: int) -> Subject:
    """Return a fleet that was just dispatched, with the durations of another one's log."""
    observed = directory / "observed.sqlite"
    write_log(observed, facts)
    durations = _recorded(observed).durations
    database = directory / "fleet.sqlite"
    prepare_database(database, host_names(hosts))
    return Subject(_recorded(database).state, durations, PastCourses(), FrozenMap())


def _recorded(database: Path) -> Recording:
    recording = Recording(Replay())
    with closing(open_for_reading(database)) as connection:
        for row in read_log(connection):
            recording.take(row)
    return recording


def _shadow(database: Path) -> Shadow:
    shadow = Shadow(Replay(), Replay(), FrozenMap())
    with closing(open_for_reading(database)) as connection:
        rows = list(read_log(connection))
    # The last rollout is under way still.
    for row in rows[: -len(rows) // 100]:
        shadow.take(row)
    shadow.differences(lambda taken: taken)
    return shadow


def _backtest(database: Path) -> None:
    recording = _recorded(database)
    played = Play(recording, Replay().state, FrozenMap()).run()
    assert all(it.ended_at == recording.ended.get(it.rollout_id) for it in played.rollouts)
