"""The lines of the log as bytes, made once for all readers, and which of them a reader wants.

Source: docs/spec/wire.md, The feed.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from attrs import evolve, frozen

from nixfleet_control_plane.feed import BYTES_KEPT, ROWS_KEPT
from nixfleet_control_plane.history.line_types import AsksApproval
from nixfleet_control_plane.http.listed_lines import listed_lines
from nixfleet_control_plane.messages.log_entry import EARLIER_KINDS, LogRow
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import LISTED_ROW, ListedRow


class Line(NamedTuple):
    """A line of the log: what readers choose by, and its JSON."""

    rollout_id: str | None
    host: str | None
    kind: str
    severity: Severity
    data: bytes


@frozen
class Wanted:
    """Which lines are wanted; `None`: any. severity: the least."""

    rollout_id: str | None = None
    host: str | None = None
    kind: str | None = None
    severity: Severity | None = None

    def may_be_in(self, row: LogRow) -> bool:
        """Return whether a line of `row` can be wanted. By its columns alone: most rows need not be read then."""
        if row.kind in EARLIER_KINDS:
            return True
        has_kind = (
            self.kind in (None, row.kind)
            or (row.kind == "agent_events" and self.kind == "agent_event")
            or (row.kind == "agent_events" and row.outcome is not None)
        )
        return (
            has_kind
            and self.rollout_id in (None, row.rollout_id)
            and self.host in (None, row.host_id)
        )

    def has(self, line: Line) -> bool:
        """Return whether `line` is wanted."""
        return (
            self.rollout_id in (None, line.rollout_id)
            and self.host in (None, line.host)
            and self.kind in (None, line.kind)
            and (self.severity is None or line.severity.rank >= self.severity.rank)
        )


EVERY_LINE: Final = Wanted()


class LogLines:
    """Makes lines of rows, and keeps those of the rows made last. asks: as for `listed_lines`.

    rows_kept, bytes_kept: of how many rows, and how long the payloads of these rows are together.
    """

    def __init__(
        self, asks: AsksApproval, rows_kept: int = ROWS_KEPT, bytes_kept: int = BYTES_KEPT
    ) -> None:
        self._asks = asks
        self._rows_kept = rows_kept
        self._bytes_kept = bytes_kept
        self._bytes = 0
        # By the row itself, for the rows of another log have the same numbers.
        self._lines: OrderedDict[int, tuple[LogRow, tuple[Line, ...]]] = OrderedDict()

    def of(self, row: LogRow) -> tuple[Line, ...]:
        """Return the lines of a row, without the bytes of an artefact, which have calls of their own."""
        known = self._lines.get(row.seq)
        if known is not None and known[0] is row:
            return known[1]
        lines = tuple(_line(listed) for listed in listed_lines(row, self._asks))
        if known is not None:
            self._bytes -= len(known[0].payload)
        self._lines[row.seq] = row, lines
        self._bytes += len(row.payload)
        while len(self._lines) > self._rows_kept or self._bytes > self._bytes_kept:
            _, (forgotten, _) = self._lines.popitem(last=False)
            self._bytes -= len(forgotten.payload)
        return lines


def page_bytes(lines: Iterable[Line], seen: int, head: int, begins: int | None) -> bytes:
    """Return the JSON of a `FeedPage` of these lines, as its coder writes it. seen: its `next`."""
    first = b"" if begins is None else b',"begins":%d' % begins
    events = b",".join([line.data for line in lines])
    return b'{"events":[%b],"next":%d,"head":%d%b}' % (events, seen, head, first)


def _line(listed: ListedRow) -> Line:
    if "body" in listed.payload:
        # Megabytes in a large fleet.
        said = {name: value for name, value in listed.payload.items() if name != "body"}
        listed = evolve(listed, payload=FrozenMap(said))
    assert listed.severity is not None, listed
    severity = Severity(listed.severity)
    data = LISTED_ROW.encode(listed)
    return Line(listed.rollout_id, listed.host, listed.kind, severity, data)
