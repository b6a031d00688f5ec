"""replay: a log folded into host records without the cache of them, and every view rebuilt and compared.

Both read the rows from SQLite and decode every payload; the fold runs the reducer, the rebuild runs all that a live
event runs (books, planner's view, views in SQL) and compares each row it would have written.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from attrs import evolve

from benchmarks.harness import Figure, Scale, Timed, race, scratch
from benchmarks.life import ROLLOUT
from benchmarks.logged import write_log
from nixfleet_control_plane.loading import load_state
from nixfleet_control_plane.queries import open_for_reading
from nixfleet_control_plane.rebuild import check_chain, check_views
from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_control_plane.writes import RemoveHostRecords, SetRecordsThrough

FOLD_AT_LEAST, REBUILD_AT_LEAST = 200_000, 60_000


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the rates of fold, rebuild and chain check."""
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        rows = write_log(database, scale.pick(200_000, 40_000, 100))
        rates = race(
            scale,
            {
                "fold into records": lambda: _folding(database, rows),
                "rebuild of all views": lambda: _rebuilding(database),
                "check of the hash chain": lambda: _checking(database),
            },
        )
    targets = {"fold into records": FOLD_AT_LEAST, "rebuild of all views": REBUILD_AT_LEAST}
    for name, rate in rates.items():
        yield evolve(
            rate,
            workload="replay",
            name=f"{name}, {rows:,} rows",
            unit="rows/s",
            at_least=targets.get(name),
        )


def _folding(database: Path, rows: int) -> Timed:
    def run() -> int:
        with closing(SqliteStore(database)) as store:
            # The cache is gone: the whole log is folded.
            store.commit((RemoveHostRecords(ROLLOUT), SetRecordsThrough(0)))
            state = load_state(store)
            assert state.head_seq == rows
        return rows

    return run


def _rebuilding(database: Path) -> Timed:
    def run() -> int:
        with closing(open_for_reading(database)) as connection:
            report = check_views(connection)
        assert not report.differences, report.differences[:3]
        return report.entries

    return run


def _checking(database: Path) -> Timed:
    def run() -> int:
        with closing(open_for_reading(database)) as connection:
            report = check_chain(connection)
        assert report.problem is None, report
        return report.rows

    return run
