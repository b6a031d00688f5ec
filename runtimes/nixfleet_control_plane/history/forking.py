"""A fleet as it was at a row of its log, in a store of its own: rows and views up to that row, by the same replay.

The copy is a database as any other, with the same chain of hashes, and no row of it goes back to the original.
Source: docs/spec/forecast.md, Forks.
"""

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.record_flush import flush
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.errors import NixfleetError

_AT_ONCE: Final = 500
_ALL: Final = 2**31


class NoSuchRow(NixfleetError):
    """The log has no row of this number. Attributes: `seq`, `head_seq`."""

    def __init__(self, seq: int, head_seq: int) -> None:
        super().__init__(seq, head_seq)
        self.seq = seq
        self.head_seq = head_seq

    def __str__(self) -> str:
        return f"expected a row from 1 to {self.head_seq}, the last one, found {self.seq}"


@frozen
class Forked:
    """What a fork has: up to which row, and when that was written."""

    seq: int
    at: datetime


def fork(rows: Iterable[LogRow], seq: int, path: Path) -> Forked:
    """Write a database at `path`, which does not exist, with the `rows` up to number `seq` and their views.

    rows: the whole log, from row 1. Raises: NoSuchRow, and then `path` has what there is; DamagedRow.
    """
    state, commit, at = State(), CommitBuilder(), None
    with closing(SqliteStore(path)) as store:
        for row in rows:
            if row.seq > seq:
                break
            logged = entry_of(row)
            replay(state, commit, logged)
            state.undo.settle()
            at = logged.at
            if row.seq % _AT_ONCE == 0:
                store.commit(commit.writes)
                commit = CommitBuilder()
        if at is not None:
            flush(state, commit, _ALL)
            store.commit(commit.writes)
    if at is None or state.head_seq < seq:
        raise NoSuchRow(seq, state.head_seq)
    return Forked(seq, at)
