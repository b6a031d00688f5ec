"""The rows of a log that were exported and dropped, from their files."""

from collections.abc import Iterator
from pathlib import Path

from nixfleet_control_plane.history.retention.export_file import exported_rows
from nixfleet_control_plane.history.retention.log_start import LogStart
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_proto.errors import NixfleetError


class RowsDropped(NixfleetError):
    """The beginning of the log is needed, and is in exported files only. first_seq: the first row that is left."""

    def __init__(self, first_seq: int) -> None:
        super().__init__(first_seq)
        self.first_seq = first_seq

    def __str__(self) -> str:
        return (
            f"the log begins at row {self.first_seq}: expected --exports with the directory that has the rows "
            "before it, found none"
        )


def rows_before(start: LogStart, exports: Path | None) -> Iterator[LogRow]:
    """Yield the rows of a log before its first one, each verified.

    Raises: RowsDropped, if there are some and `exports` is `None`; ExportAltered, ExportMissing, OSError.
    """
    if start.first_seq == 1:
        return
    if exports is None:
        raise RowsDropped(start.first_seq)
    yield from exported_rows(exports, start.first_seq, start.prev_hash)
