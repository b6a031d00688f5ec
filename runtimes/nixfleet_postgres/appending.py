"""The arguments of `append`, the one statement of a commit. Pure: what is sent, and what the log's head is after it.

Columns are those of `store.sqlite_statements` and of `store.stored_row`: both stores have
the same tables. Writes stay in order; those of one kind that follow each other are one run.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import orjson
from attrs import field, frozen

from nixfleet_control_plane.messages.log_entry import LogRow, chain_hash
from nixfleet_control_plane.messages.writes import (
    CacheWrite,
    PutArtefact,
    PutDeferral,
    PutDispatch,
    PutEnrolledHost,
    PutHold,
    PutHostRecord,
    PutQuarantine,
    PutRefusedEvent,
    PutRollout,
    SetRecordsThrough,
    ViewWrite,
    Write,
)
from nixfleet_control_plane.store.sqlite_statements import Value, statement_of
from nixfleet_control_plane.store.stored_row import stored_payload
from nixfleet_postgres.errors import OutOfOrder
from nixfleet_postgres.texts import storable

Values: TypeAlias = tuple[Value, ...]

_KEY_LENGTHS: Final[dict[type, int]] = {
    PutRollout: 1,
    PutQuarantine: 2,
    PutDispatch: 2,
    PutDeferral: 2,
    PutHold: 2,
    PutArtefact: 1,
    PutRefusedEvent: 3,
    PutEnrolledHost: 1,
    SetRecordsThrough: 0,
}
"""The kinds that replace a row, with the number of columns of its key: the last of a run is as good as all of them."""
_HOST_RECORD_KEY_LENGTH: Final = 2
"""A cached record is not replaced by an older one, so each of a key is in a run of its own."""
_ROW_NAMES: Final = (
    "event_log_seq",
    "cleared_by_seq",
    "triggering_event_log_seq",
)
"""The attributes of writes that name a row of the log."""


@frozen
class Head:
    """The last row of the log."""

    seq: int
    hash: bytes = field(repr=bytes.hex)


@frozen
class Appended:
    """One commit. before, after: the log's head. arguments: of `append`, after shard, epoch and lease."""

    before: Head
    after: Head
    arguments: tuple[object, ...]

    @property
    def has_rows(self) -> bool:
        """Whether it adds to the log."""
        return self.after.seq != self.before.seq


def appended(where: str, head: Head, writes: Sequence[Write]) -> Appended:
    """Return the commit of `writes` on a log that ends with `head`. Raises: OutOfOrder."""
    seq, end = head.seq, head.hash
    columns = list[tuple[object, ...]]()
    contents: dict[str, str] = {}
    others = list[ViewWrite | CacheWrite]()
    for write in writes:
        if not isinstance(write, LogRow):
            others.append(write)
            continue
        if write.seq != seq + 1:
            raise OutOfOrder(where, f"row {seq + 1}", f"row {write.seq}")
        payload, referred = stored_payload(write)
        contents |= referred
        before, end, seq = end, chain_hash(end, write), write.seq
        columns.append((*map(storable, (*write[:5], payload, *write[6:])), before, end))
    _require_rows(where, seq, others)
    rows = [*map(list, zip(*columns, strict=True))] if columns else [[] for _ in range(12)]
    changes = orjson.dumps([*_runs(others)]).decode() if others else None
    sent = (head.seq, seq, end, *rows, [*contents], [*map(storable, contents.values())], changes)
    return Appended(head, Head(seq, end), sent)


def _require_rows(where: str, head_seq: int, writes: Iterable[ViewWrite | CacheWrite]) -> None:
    """Check that each row of the log which a view names is there. Raises: OutOfOrder."""
    for write in writes:
        named = max(getattr(write, name, 0) for name in _ROW_NAMES)
        if isinstance(write, PutRollout):
            named = write.record.last_transition_event_log_seq
        if named > head_seq:
            expected = f"writes that name rows up to {head_seq}"
            raise OutOfOrder(where, expected, f"{type(write).__name__} of row {named}")


def _runs(
    writes: Iterable[ViewWrite | CacheWrite],
) -> Iterable[tuple[str, list[Values]]]:
    """Yield the runs of `writes` in order: the kind, and the values of each. No run has a key twice."""
    kind: type | None = None
    run: dict[Values, Values] = {}
    for write in writes:
        values = tuple(map(storable, statement_of(write)[1]))
        length = _KEY_LENGTHS.get(type(write))
        is_replacing = length is not None
        if isinstance(write, PutHostRecord):
            length = _HOST_RECORD_KEY_LENGTH
        key = values[:length]
        if type(write) is not kind or (key in run and not is_replacing):
            if kind is not None:
                yield kind.__name__, [*run.values()]
            kind, run = type(write), {}
        run[key] = values
    if kind is not None:
        yield kind.__name__, [*run.values()]
