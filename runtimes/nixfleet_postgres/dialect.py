"""The SQL that stores share, as PostgreSQL spells it, and the values of its rows. Pure."""

import re
from collections.abc import Iterable
from itertools import count
from typing import Any, Final

from nixfleet_control_plane.store.stored_row import CONTENTS_COLUMN
from nixfleet_postgres.texts import restored, storable

_CONTENTS: Final = "CASE kind WHEN 'artefact_accepted' THEN contents_in(payload) END"
_LOG: Final = re.compile(r"\b(FROM|JOIN) event_log\b( AS \w+)?")


def in_postgresql(sql: str, up_to_seq: int | None = None) -> str:
    """Return a statement of `store.queries` as PostgreSQL has it. No text in it may have a question mark.

    up_to_seq: the last row of the log that the statement sees.
    """
    numbers = count(1)
    said = re.sub(r"\?", lambda _: f"${next(numbers)}", sql.replace(CONTENTS_COLUMN, _CONTENTS))
    if up_to_seq is None:
        return said
    # A condition that the planner takes into the statement around it.
    seen = f"(SELECT * FROM event_log WHERE seq <= {up_to_seq:d})"
    return _LOG.sub(lambda found: f"{found[1]} {seen}{found[2] or ' AS event_log'}", said)


def arguments(values: Iterable[Any]) -> list[Any]:
    """Return values for the places of a statement."""
    return [storable(value) for value in values]


def plain(rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    """Return rows as they were before they were stored."""
    return [tuple(map(restored, row)) for row in rows]
