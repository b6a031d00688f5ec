"""cold_start: from a database with a log of a million facts to a control plane that could answer.

The cache of host records is complete but for the hosts who spoke last, as after a crash between two flushes; the
operating system's cache is warm. What is measured is opening the file and loading the state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter, process_time

import orjson
from attrs import evolve

from benchmarks.harness import Figure, Scale, ratio, scratch
from benchmarks.logged import write_log
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_runtime.process import garbage

TAIL_FACTS = 5_000
SECONDS_AT_MOST, OF_READ_AT_MOST = 1.5, 20.0


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the seconds of a start."""
    garbage.collect_rarely()
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        facts = write_log(database, scale.pick(1_000_000, 100_000, 100), uncached=TAIL_FACTS)
        rounds = [(_timed(_start, database), _timed(_read, database)) for _ in range(scale.rounds)]
    starts, reads = zip(*rounds, strict=True)
    start = _figure(f"{facts:,} facts, {TAIL_FACTS:,} not in the cache", starts, "ours")
    read = _figure("the cached records and their JSON alone", reads, "limit")
    yield from (evolve(start, at_most=SECONDS_AT_MOST), read)
    yield ratio("start / records and their JSON alone", start, read, at_most=OF_READ_AT_MOST)


def _figure(name: str, rounds: Sequence[tuple[float, float]], kind: str) -> Figure:
    walls, cpus = zip(*rounds, strict=True)
    return Figure("cold_start", name, "s", walls, kind, cpu=cpus)


def _timed(work: Callable[[Path], object], database: Path) -> tuple[float, float]:
    """Return the seconds that `work` takes, on the wall and of the processor."""
    wall, cpu = perf_counter(), process_time()
    work(database)
    return perf_counter() - wall, process_time() - cpu


def _start(database: Path) -> None:
    with closing(SqliteStore(database)) as store:
        load_state(store)


def _read(database: Path) -> None:
    """Do what no start with these records can do without."""
    with closing(open_for_reading(database)) as connection:
        for (record,) in connection.execute("SELECT record FROM host_rollout_records"):
            orjson.loads(record)
