"""Which version a database or a journal has, and which program wrote it last."""

import sqlite3
from collections.abc import Mapping

from nixfleet_runtime.storage.upgrade import stored_program


def versions_line(connection: sqlite3.Connection) -> str:
    """Return both as a line."""
    written = stored_program(connection)
    by = f"written by nixfleet {written}" if written else "it is not known which program wrote it"
    return f"version {_version(connection)} of the file; {by}"


def versions_value(connection: sqlite3.Connection) -> Mapping[str, object]:
    """Return both for JSON."""
    return {"program": stored_program(connection), "version": _version(connection)}


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
