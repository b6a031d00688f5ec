"""Which version a database or a journal has, and which program wrote it last; of another store, its kind."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing

from attrs import frozen

from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.storage.upgrade import stored_program


@frozen
class Versions:
    """What a command says of them: as a line, and as members of its JSON."""

    line: str
    value: Mapping[str, object]


def versions_of(store: StoreConfig) -> Versions:
    """Return those of a control plane's store. Raises: as `open_for_reading`."""
    if store.path is None:
        kind, by = store.plugin.name, store.plugin.distribution
        value = {
            "program": None,
            "version": None,
            "store": {"kind": kind, "distribution": by or None},
        }
        return Versions(f"store {store.plugin.named}", value)
    with closing(open_for_reading(store.path)) as connection:
        return versions_in(connection)


def versions_in(connection: sqlite3.Connection) -> Versions:
    """Return those of the file behind `connection`."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    program = stored_program(connection)
    by = f"written by nixfleet {program}" if program else "it is not known which program wrote it"
    return Versions(
        f"version {version} of the file; {by}", {"program": program, "version": version}
    )
