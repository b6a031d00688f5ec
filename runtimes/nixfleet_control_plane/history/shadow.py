"""The shadow replay: a program replays the log and compares the views before its first write to a database.

A program that derives other views from the same log than the one before it would decide by views that no log explains.
So the first difference stops it. Databases of versions before the first promise are an exception: how their views
follow from the log changed with each of them, so their views are derived anew.
Source: docs/how-to/upgrading.md; docs/spec/runtimes.md, Versions.
"""

import sqlite3
from pathlib import Path
from typing import Final

from nixfleet_control_plane.history.rebuild import ViewDifference, check_views
from nixfleet_runtime.process.progress import Noted, unnoted
from nixfleet_runtime.storage.copies import NotUpgraded

FIRST_PROMISED_VERSION: Final = 5
_CACHE: Final = "host_rollout_records"


class ViewsDiffer(NotUpgraded):
    """This program derives other views from the log than are stored. Attributes: `path`, `difference`, `count`."""

    def __init__(self, path: Path, difference: ViewDifference, count: int) -> None:
        super().__init__(path, difference, count)
        self.path = path
        self.difference = difference
        self.count = count

    def __str__(self) -> str:
        return (
            f"{self.path}: expected the views that this program derives from the log, found {self.count} row(s) that "
            f"differ, the first: {line_of(self.difference)}. Nothing was changed. Go on with the program that wrote "
            f"it, or let `nixfleet db upgrade --rebuild {self.path}` keep a copy and derive the views anew"
        )


def compare_views(
    connection: sqlite3.Connection, found: int, noted: Noted = unnoted
) -> tuple[str, ...]:
    """Compare the views with the log, for a file that had version `found`; return which rows were derived anew.

    noted: rows were replayed.
    Raises: ViewsDiffer, DamagedRow.
    """
    if found < FIRST_PROMISED_VERSION:
        return derive_views_anew(connection, found, noted)
    differences = check_views(connection, noted=noted).differences
    if differences:
        raise ViewsDiffer(_path_of(connection), differences[0], len(differences))
    return ()


def derive_views_anew(
    connection: sqlite3.Connection, _found: int, noted: Noted = unnoted
) -> tuple[str, ...]:
    """Replace each row of the views that differs from the log; return those rows, one line each. Raises: DamagedRow."""
    differences = check_views(connection, noted=noted).differences
    for difference in differences:
        if difference.table != _CACHE:
            _correct(connection, difference)
    if any(difference.table == _CACHE for difference in differences):
        # A start completes the cache from the log.
        connection.execute(f"DELETE FROM {_CACHE}")
        connection.execute("UPDATE host_records_through SET event_log_seq = 0")
    return tuple(map(line_of, differences))


def line_of(difference: ViewDifference) -> str:
    """Return a difference as a line."""
    where = "stored, but not in the log" if difference.stored else "in the log, but not stored"
    return f"{difference.table}, {where}: {difference.row}"


def _correct(connection: sqlite3.Connection, difference: ViewDifference) -> None:
    table, row = difference.table, difference.row
    if not difference.stored:
        connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        return
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    same = " AND ".join(f"{name} IS ?" for (name,) in columns.fetchall())
    connection.execute(f"DELETE FROM {table} WHERE {same}", row)


def _path_of(connection: sqlite3.Connection) -> Path:
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])
