"""signed_again: what a release costs on the disk that is signed again so that it stays fresh, and says nothing new.

A release of 1,000 hosts is signed every hour, which is the default, and taken by the engine and the store; the database
file is measured, and a year has so many hours. Beside it: the same rows with each artefact in them as a whole, as they
were stored before there were contents.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from benchmarks.fleet import host_names, release
from benchmarks.harness import Figure, Scale, ratio, scratch
from benchmarks.life import T0
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.sqlite_store import INSERT_LOG, SqliteStore

HOURS_A_YEAR = 8_766
EVERY_HOURS = (1, 4)
SHARE_AT_MOST = 0.05


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the megabytes a year for each interval, and the share of what they were."""
    hosts, times = host_names(scale.pick(1_000, 1_000, 10)), scale.pick(48, 24, 3)
    once, whole = _bytes_of_one(hosts, times)
    for hours in EVERY_HOURS:
        how = f"{len(hosts):,} hosts, signed every {hours} h"
        yield _yearly(how, once, hours, "ours")
        yield _yearly(f"{how}, artefacts in their rows", whole, hours, "peer")
    ours, before = _yearly("", once, 1, "ours"), _yearly("", whole, 1, "peer")
    yield ratio("once / in their rows", ours, before, at_most=SHARE_AT_MOST)


def _yearly(name: str, signing_bytes: float, hours: int, kind: str) -> Figure:
    megabytes = signing_bytes * HOURS_A_YEAR / hours / 1e6
    return Figure("signed_again", name, "MB/year", (megabytes,), kind)


def _bytes_of_one(hosts: tuple[str, ...], times: int) -> tuple[float, float]:
    """Return by how much a signing lets the database grow, and a table with the same rows as a whole."""
    with scratch() as directory:
        database, whole = directory / "control-plane.sqlite", directory / "whole.sqlite"
        SqliteStore(whole).close()
        with closing(SqliteStore(database)) as store, closing(sqlite3.connect(whole)) as rows:
            engine = ControlPlaneEngine(load_state(store))
            grown: list[tuple[int, int]] = []
            for hour in range(times + 1):
                now = T0 + timedelta(hours=hour)
                writes = engine.handle(release(hosts, now), now).writes
                engine.settle()
                store.commit(writes)
                for row in writes:
                    if isinstance(row, LogRow):
                        rows.execute(INSERT_LOG, (*row, bytes(32), bytes(32)))
                rows.commit()
                grown.append((_pages(database), _pages(whole)))
        first, last = grown[0], grown[-1]
        return (last[0] - first[0]) / times, (last[1] - first[1]) / times


def _pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(
            connection.execute(
                "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
            ).fetchone()[0]
        )
