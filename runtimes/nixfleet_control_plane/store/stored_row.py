"""The columns of a row of the log as SQLite has them, and the row that they stand for: the same, byte for byte.

Above the store a row is what was written; only what reads the table knows how it is stored.
Source: docs/spec/log.md, Stored rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.contents import put_together, taken_apart

LOG_COLUMNS: Final = (
    "seq, ts, kind, host_id, rollout_id, payload, signature, first_fact_seq, fact_count, outcome"
)
LOG_BEGINS_AT: Final = "(SELECT ifnull(max(first_seq), 1) FROM log_start)"
"""The first row of the log, in SQL. Rows before it were exported, and nothing reads them until they are removed."""
_REFERENCES: Final = (
    "SELECT json_extract(part.value, '$.content') FROM json_each(payload, '$.body') AS part"
    " WHERE part.type = 'object'"
)
READ_COLUMNS: Final = (
    f"{LOG_COLUMNS}, CASE WHEN kind = 'artefact_accepted' AND json_type(payload, '$.body') = 'array'"
    f" THEN (SELECT json_group_object(hash, text) FROM contents WHERE hash IN ({_REFERENCES})) END"
)
"""The columns of a row, and its contents: of `event_log`, for `read_row`."""
REFERRED: Final = (
    "SELECT json_extract(part.value, '$.content') FROM event_log, json_each(payload, '$.body') AS part"
    " WHERE kind = 'artefact_accepted' AND part.type = 'object'"
)
"""Selects the hash of each content that a row of the log refers to."""
PUT_CONTENT: Final = "INSERT OR IGNORE INTO contents (hash, text) VALUES (?, ?)"


def stored_row(row: LogRow) -> tuple[LogRow, Mapping[str, str]]:
    """Return the row as it is stored, and by its hash each content that it refers to."""
    if row.kind != "artefact_accepted":
        return row, {}
    payload, contents = taken_apart(row.payload)
    return row._replace(payload=payload), contents


def whole_row(stored: LogRow, contents: Mapping[str, str]) -> LogRow:
    """Return the row of which `stored_row` made `stored`. Raises: ContentDamaged."""
    if stored.kind != "artefact_accepted":
        return stored
    return stored._replace(payload=put_together(stored.payload, contents))


def read_row(columns: Sequence[Any]) -> LogRow:
    """Return the row as it was written. columns: the values of `READ_COLUMNS`. Raises: DamagedRow."""
    *stored, contents = columns
    row = LogRow._make(stored)
    if contents is None:
        return row
    try:
        return whole_row(row, orjson.loads(contents))
    except Exception as error:  # Also if the references themselves were altered.
        raise DamagedRow(row.seq, row.kind, str(error)) from error
