"""log_size: bytes of an event on the disk, with all pages, indexes and hashes.

Hosts live through the engine and the store, with a signature for each request: in batches of 28, and one by one. The
log is its table, its index and the contents of its artefacts. The file has also the views, and one cached record for
each host, however long the log becomes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.durable_ingest import posts
from benchmarks.fleet import host_names, prepare_database
from benchmarks.harness import Figure, Scale, scratch
from benchmarks.life import FACTS_PER_LIFE, at
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import FlushRecords, HostEvents
from nixfleet_control_plane.store.sqlite_store import SqliteStore

LOG: tuple[str, ...] = (
    "event_log",
    "event_log_by_rollout",
    "contents",
    "sqlite_autoindex_contents_1",
)
BATCHED_AT_MOST = 180
HOSTS_PER_COMMIT = 50


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield the bytes of an event in the log and in the file."""
    hosts = host_names(scale.pick(3_000, 1_000, 10))
    for batch, name, at_most in (
        (FACTS_PER_LIFE, "batches of 28", BATCHED_AT_MOST),
        (1, "one by one", None),
    ):
        log, file = _bytes(hosts, batch)
        yield Figure("log_size", f"{name}, log", "B/event", (log,), at_most=at_most)
        yield Figure("log_size", f"{name}, file with one life per host", "B/event", (file,))


def _bytes(hosts: tuple[str, ...], batch: int) -> tuple[float, float]:
    events = len(hosts) * FACTS_PER_LIFE
    with scratch() as directory:
        database = directory / "control-plane.sqlite"
        _live(database, hosts, batch)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        return sum(sizes.get(name, 0) for name in LOG) / events, database.stat().st_size / events


def _live(database: Path, hosts: tuple[str, ...], batch: int) -> None:
    """Let each host report its life, so many facts at a time."""
    prepare_database(database, hosts)
    said, lived_at = posts(hosts, batch), at(2 * FACTS_PER_LIFE * 60)
    with closing(SqliteStore(database)) as store:
        engine = ControlPlaneEngine(load_state(store))
        for index in range(-(-FACTS_PER_LIFE // batch)):
            for first in range(0, len(hosts), HOSTS_PER_COMMIT):
                inputs = [
                    HostEvents(host, said[host][index].envelopes, said[host][index].signed)
                    for host in hosts[first : first + HOSTS_PER_COMMIT]
                ]
                store.commit([w for each in inputs for w in engine.handle(each, lived_at).writes])
                engine.settle()
        store.commit(engine.handle(FlushRecords(len(hosts)), lived_at).writes)
