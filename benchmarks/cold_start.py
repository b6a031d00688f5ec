"""cold_start: from a database with a log of a million facts to a control plane that could answer.

The cache of host records is complete but for the hosts who spoke last, as after a crash between two flushes; the
operating system's cache is warm. What is measured is opening the file and loading the state.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Figure, Scale, scratch
from benchmarks.logged import write_log
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_runtime.process import garbage

TAIL_FACTS = 5_000


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the seconds of a start."""
    garbage.collect_rarely()
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        facts = write_log(database, scale.pick(1_000_000, 100_000, 100), uncached=TAIL_FACTS)
        values = tuple(_seconds(database) for _ in range(scale.rounds))
    yield Figure("cold_start", f"{facts:,} facts, {TAIL_FACTS:,} not in the cache", "s", values)


def _seconds(database: Path) -> float:
    begun = perf_counter()
    with closing(SqliteStore(database)) as store:
        load_state(store)
        return perf_counter() - begun
