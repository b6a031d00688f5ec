"""replay: a log folded into host records without the cache of them, and every view rebuilt and compared.

Both read the rows from SQLite and decode every payload; the fold runs the reducer, the rebuild runs all that a live
event runs (books, planner's view, views in SQL) and compares each row it would have written. In rounds on a log that is
done in a second; a long one is folded once.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import orjson
from attrs import evolve

from benchmarks.harness import Contender, Figure, Scale, Timed, race, ratio, scratch
from benchmarks.life import ROLLOUT
from benchmarks.logged import write_log
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.messages.writes import RemoveHostRecords, SetRecordsThrough
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_runtime.process import garbage

FOLD, REBUILD, CHECK = "fold into records", "rebuild of all views", "check of the hash chain"
READ = "rows and their JSON alone"
TARGETS = {FOLD: 200_000, REBUILD: 80_000, CHECK: None, READ: None}
OF_READ_AT_LEAST = {FOLD: 0.05, REBUILD: 0.03}


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the rates of fold, rebuild and chain check."""
    garbage.collect_rarely()
    yield from _rates(scale, scale.pick(40_000, 40_000, 100), tuple(TARGETS))
    if scale.name == "full":
        yield from _rates(evolve(scale, rounds=1), 1_000_000, (FOLD,))


def _rates(scale: Scale, about_facts: int, names: Sequence[str]) -> Iterator[Figure]:
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        facts = write_log(database, about_facts)
        contenders: dict[str, Contender] = {
            FOLD: lambda: _folding(database, facts),
            REBUILD: lambda: _rebuilding(database, facts),
            CHECK: lambda: _checking(database, facts),
            READ: lambda: _reading(database, facts),
        }
        rates = race(scale, {name: contenders[name] for name in names})
        for name, rate in rates.items():
            yield evolve(
                rate,
                workload="replay",
                name=f"{name}, {facts:,} facts",
                unit="facts/s",
                kind="limit" if name == READ else "ours",
                at_least=TARGETS[name],
            )
        for name, at_least in OF_READ_AT_LEAST.items():
            if READ in rates:
                of_read = ratio(f"{name} / {READ}", rates[name], rates[READ], at_least=at_least)
                yield evolve(of_read, workload="replay")


def _folding(database: Path, facts: int) -> Timed:
    def run() -> int:
        with closing(SqliteStore(database)) as store:
            # The cache is gone: the whole log is folded.
            store.commit((RemoveHostRecords(ROLLOUT), SetRecordsThrough(0)))
            load_state(store)
        return facts

    return run


def _rebuilding(database: Path, facts: int) -> Timed:
    def run() -> int:
        with closing(open_for_reading(database)) as connection:
            report = check_views(connection)
        assert not report.differences, report.differences[:3]
        return facts

    return run


def _reading(database: Path, facts: int) -> Timed:
    """What no replay can do without: the columns of each row, and its payload as Python's values."""

    def run() -> int:
        with closing(open_for_reading(database)) as connection:
            for (payload,) in connection.execute("SELECT payload FROM event_log ORDER BY seq"):
                orjson.loads(payload)
        return facts

    return run


def _checking(database: Path, facts: int) -> Timed:
    def run() -> int:
        with closing(open_for_reading(database)) as connection:
            report = check_chain(connection)
        assert report.problem is None, report
        return facts

    return run
