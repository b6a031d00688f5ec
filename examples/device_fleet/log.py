"""The log of facts: a SQLite file. A commit is there as a whole or not at all, also after a crash."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import frozen
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from examples.device_fleet.model import Fact
from nixfleet import FrozenMap


@frozen
class _Row:
    fact: Fact


def _is_frozen_map(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is FrozenMap


_converter = make_converter()
_converter.register_structure_hook_func(_is_frozen_map, lambda value, _: FrozenMap(value))
configure_tagged_union(Fact, _converter, tag_name="kind")


class FactLog:
    """The facts of one fleet, for one process."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, row TEXT)")

    def load(self) -> Sequence[Fact]:
        """Return all facts, oldest first."""
        rows = self._database.execute("SELECT row FROM log ORDER BY seq").fetchall()
        return [_converter.loads(row, _Row).fact for (row,) in rows]

    async def append(self, facts: Sequence[Fact]) -> None:
        """Make all of `facts` durable, or none."""
        rows = [(_converter.dumps(_Row(fact)),) for fact in facts]
        await anyio.to_thread.run_sync(partial(self._append, rows))

    def _append(self, rows: Sequence[tuple[str]]) -> None:
        with self._database:
            self._database.executemany("INSERT INTO log (row) VALUES (?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
