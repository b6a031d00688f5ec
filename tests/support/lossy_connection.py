"""SQLite connections that lose what becomes of a COMMIT."""

import sqlite3
from enum import Enum, auto
from typing import Any


class Lost(Enum):
    """What a COMMIT loses. In both cases SQLite reports an error, and the transaction is over."""

    ANSWER = auto()
    """It is carried out."""
    COMMIT = auto()
    """It is not carried out."""


class LossyConnection(sqlite3.Connection):
    """Loses what the next COMMITs of any connection are told to lose, first come first served."""

    losing: list[Lost | None]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        lost = self.losing.pop(0) if sql == "COMMIT" and self.losing else None
        if lost is None:
            return super().execute(sql, parameters)
        super().execute("ROLLBACK" if lost is Lost.COMMIT else "COMMIT")
        raise sqlite3.OperationalError("disk I/O error")


def lossy() -> type[LossyConnection]:
    """Return a kind of connection of its own, which loses nothing yet."""
    return type("Lossy", (LossyConnection,), {"losing": []})
