"""The columns of a row of the log as SQLite has them, and the row that they stand for: the same, byte for byte.

Above the store a row is what was written; only what reads the table knows how it is stored.
Source: docs/spec/log.md, Stored rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.contents import put_together, taken_apart
from nixfleet_control_plane.store.envelopes import lengthened, shortened

LOG_COLUMNS: Final = (
    "seq, ts, kind, host_id, rollout_id, payload, signature, first_fact_seq, fact_count, outcome"
)
LOG_BEGINS_AT: Final = "(SELECT coalesce(max(first_seq), 1) FROM log_start)"
"""The first row of the log, in SQL. Rows before it were exported, and nothing reads them until they are removed."""
LATER_OF: Final = (
    "(SELECT max(first_seq) FROM (SELECT CAST(? AS bigint) AS first_seq"
    " UNION ALL SELECT first_seq FROM log_start) AS bounds)"
)
"""The row that `?` names, or the first row of the log if that is later. The greater of two has another name in each
database, and two conditions instead would let SQLite search by the wrong one.
"""
_REFERENCES: Final = (
    "SELECT json_extract(part.value, '$.content') FROM json_each(payload, '$.body') AS part"
    " WHERE part.type = 'object'"
)
CONTENTS_COLUMN: Final = (
    "CASE WHEN kind = 'artefact_accepted' AND json_type(payload, '$.body') = 'array'"
    f" THEN (SELECT json_group_object(hash, text) FROM contents WHERE hash IN ({_REFERENCES})) END"
)
"""The contents that a row refers to, as a JSON object by their hashes. SQLite's alone: another store has its own."""
READ_COLUMNS: Final = f"{LOG_COLUMNS}, {CONTENTS_COLUMN}"
"""The columns of a row, and its contents: of `event_log`, for `read_row`."""
REFERRED: Final = (
    "SELECT json_extract(part.value, '$.content') FROM event_log, json_each(payload, '$.body') AS part"
    " WHERE kind = 'artefact_accepted' AND part.type = 'object'"
)
"""Selects the hash of each content that a row of the log refers to."""
PUT_CONTENT: Final = "INSERT OR IGNORE INTO contents (hash, text) VALUES (?, ?)"

Columns: TypeAlias = tuple[int, *tuple[str | int | bytes | None, ...]]
_PAYLOAD: Final = LogRow._fields.index("payload")
_SIGNATURE: Final = _PAYLOAD + 1
_NO_CONTENTS: Final[Mapping[str, str]] = {}


def stored_row(row: LogRow) -> tuple[Columns, Mapping[str, str]]:
    """Return the values of `LOG_COLUMNS`, and by its hash each content that they refer to."""
    seq, ts, kind, host, rollout, _, signature, first_fact_seq, fact_count, outcome = row
    payload, contents = stored_payload(row)
    signed = None if signature is None else _as_bytes(signature)
    return (
        (seq, ts, kind, host, rollout, payload, signed, first_fact_seq, fact_count, outcome),
        contents,
    )


def read_row(columns: Sequence[Any]) -> LogRow:
    """Return the row as it was written. columns: the values of `READ_COLUMNS`. Raises: DamagedRow."""
    *stored, contents = columns
    row = LogRow._make(stored)
    signature = stored[_SIGNATURE]
    try:
        payload = whole_payload(row, _NO_CONTENTS if contents is None else orjson.loads(contents))
    except Exception as error:  # Also if the references themselves were altered.
        raise DamagedRow(row.seq, row.kind, str(error)) from error
    signed = signature.hex() if isinstance(signature, bytes) else signature
    return LogRow._make((*row[:_PAYLOAD], payload, signed, *row[_SIGNATURE + 1 :]))


def stored_payload(row: LogRow) -> tuple[str, Mapping[str, str]]:
    """Return a row's payload as it is stored, and by its hash each content that it refers to."""
    if row.first_fact_seq is not None and row.host_id is not None and row.rollout_id is not None:
        return shortened(row.payload, row.host_id, row.rollout_id), _NO_CONTENTS
    if row.kind == "artefact_accepted":
        return taken_apart(row.payload)
    return row.payload, _NO_CONTENTS


def whole_payload(stored: LogRow, contents: Mapping[str, str]) -> str:
    """Return the payload of which `stored_payload` made that of `stored`. Raises: ContentDamaged."""
    row = stored
    if row.first_fact_seq is not None and row.host_id is not None and row.rollout_id is not None:
        return lengthened(row.payload, row.host_id, row.rollout_id)
    if row.kind == "artefact_accepted":
        return put_together(row.payload, contents)
    return row.payload


def _as_bytes(signature: str) -> bytes | str:
    """Return the bytes that a signature in hex stands for; one that is spelt otherwise as it is."""
    try:
        data = bytes.fromhex(signature)
    except ValueError:
        return signature
    return data if data.hex() == signature else signature
