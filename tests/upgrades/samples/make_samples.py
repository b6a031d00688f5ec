"""Makes a database or a journal with the code of an older checkout. README.md says with which.

A database is that of the story which the tests of the engine tell (`tests/engines/story.py` of the checkout), at the
step with most in it. A journal is the fullest one that a simulated fleet of the checkout had at any commit.
"""

import gzip
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

JOURNAL_TABLES = (
    "events WHERE is_acknowledged = 0 AND refused_reason IS NULL",
    "events WHERE is_acknowledged = 1",
    "events WHERE refused_reason IS NOT NULL",
    "rollouts WHERE closed_at IS NOT NULL",
    "rollouts WHERE closed_at IS NULL",
    "rollouts WHERE taken_over_seq > 0",
    "intents",
    "newest_release",
    "rolled_back_closures",
    "obeyed_orders",
)


def make_database(into: Path) -> None:
    """Write the database of the story at the step where it has rows in most tables, with a pause of one channel."""
    from tests.engines import story as told

    best = 0
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(told.Story.within(Path(scratch))) as story,
    ):
        control_plane = story.control_plane
        for number, step in enumerate(told.STEPS):
            step(story)
            if number == 0 and hasattr(told, "recall_another"):
                told.recall_another(story)
            if "late@r1" not in control_plane.released:
                continue
            control_plane.pause("late")
            with closing(sqlite3.connect(control_plane.database)) as database:
                names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                found = sum(count(database, name) > 0 for (name,) in names.fetchall())
            if found >= best:
                best = found
                keep(control_plane.database, into)
            control_plane.resume("late")
    sys.stdout.write(f"{into.name}: rows in {best} tables\n")


def make_journal(into: Path, seed: int) -> None:
    """Write the fullest journal of a simulated fleet with this seed."""
    from nixfleet_agent.journal import journal
    from nixfleet_cli.main import main

    best = 0
    committed: Callable[..., None] = journal.SqliteJournal.commit

    def commit(self: journal.SqliteJournal, writes: object) -> None:
        nonlocal best
        committed(self, writes)
        path = Path(self._writer.execute("PRAGMA database_list").fetchone()[2])
        found = sum(map(bool, (count(self._writer, table) for table in JOURNAL_TABLES)))
        if found > best:
            best = found
            keep(path, into)

    journal.SqliteJournal.commit = commit  # type: ignore[method-assign]
    main(f"simulate --seed {seed} --hosts 3 --days 0.05".split(), standalone_mode=False)
    sys.stdout.write(f"{into.name}: {best} of {len(JOURNAL_TABLES)}\n")
    sys.stdout.flush()


def count(connection: sqlite3.Connection, table: str) -> int:
    """Return the number of rows; 0 if this version has no such table."""
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def keep(database: Path, into: Path) -> None:
    """Write the committed content of `database`, compressed, without a write-ahead log beside it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy.sqlite")
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as kept:
            source.backup(kept)
            kept.execute("PRAGMA journal_mode=DELETE")
            kept.execute("VACUUM")
        into.write_bytes(gzip.compress(copy.read_bytes(), mtime=0))


if __name__ == "__main__":
    kind, into, *seed = sys.argv[1:]
    if kind == "database":
        make_database(Path(into))
    else:
        make_journal(Path(into), int(seed[0]))
    os._exit(0)
