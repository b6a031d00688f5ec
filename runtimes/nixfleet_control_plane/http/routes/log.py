"""The log as a feed: its lines, as they become durable, for readers who follow it.

Rows come from memory; what is older is read from the store. Each line says what happened in the words of `log show`.
Source: docs/spec/wire.md, The feed.
"""

from collections.abc import Sequence
from typing import Final

import anyio
import anyio.lowlevel
from anyio import CancelScope
from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.listed_lines import asks_approval, listed_lines
from nixfleet_control_plane.http.query import AFTER_ROW, FEED_WAIT, LIMIT, Parameter
from nixfleet_control_plane.http.server.limits import FEED_SECONDS_MAX, Pollers
from nixfleet_control_plane.http.server.presence import until_gone
from nixfleet_control_plane.messages.log_entry import EARLIER_KINDS, ENTRY_KINDS, LogRow
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import FEED_PAGE, PAGE_LENGTH_MAX, FeedPage, ListedRow

KINDS: Final = (*ENTRY_KINDS, "agent_event")
"""The kinds of lines. A report of a host, `agent_events`, has lines of kind `agent_event` or `fact_refused`."""
SCANNED_MAX: Final = 20 * PAGE_LENGTH_MAX
"""How many rows one request looks at for lines that match: then it answers how far it came."""

_ROLLOUT: Final = Parameter("rollout", "only lines about this rollout", {"type": "string"})
_HOST: Final = Parameter("host", "only lines about this host", {"type": "string"})
_KIND: Final = Parameter("kind", "only lines of this kind", {"type": "string", "enum": KINDS})
_SEVERITY: Final = Parameter(
    "severity",
    "only lines that matter so much, or more",
    {"type": "string", "enum": tuple(map(str, Severity))},
)


@frozen
class Wanted:
    """Which lines are wanted; `None`: any. severity: the least."""

    rollout_id: str | None
    host: str | None
    kind: str | None
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

    def has(self, line: ListedRow) -> bool:
        """Return whether `line` is wanted."""
        return (
            self.rollout_id in (None, line.rollout_id)
            and self.host in (None, line.host)
            and self.kind in (None, line.kind)
            and (self.severity is None or _severity(line).rank >= self.severity.rank)
        )


@frozen
class LogRoutes:
    """The feed. queries: what is older than the rows in memory. viewers: those that wait for the log to grow."""

    service: ControlPlaneService
    authenticator: Authenticator
    queries: Queries
    viewers: Pollers

    async def log(self, request: Request) -> Response:
        """200 with lines of the log after a row; it may wait for them."""
        asked = await self.authenticator.operator(request, OperatorRole.READ)
        after, limit = AFTER_ROW.of(request), min(LIMIT.of(request), PAGE_LENGTH_MAX)
        wait_seconds = min(FEED_WAIT.of(request), FEED_SECONDS_MAX)
        wanted = _wanted(request)
        feed = self.service.feed
        if after > feed.head:
            detail = f"expected a row from 0 to {feed.head}, the last one, found {after}"
            raise refusal("log-shorter", "The log has no such row", 409, detail)
        page = await self._page(after, limit, wanted)
        if page.events or page.begins or page.next < page.head or not wait_seconds:
            return _shown(page)
        with self.viewers.waiting(asked.operator.name), anyio.move_on_after(wait_seconds):
            while not page.events and page.begins is None and not feed.is_closed:
                await self._beyond(page.next, request)
                page = await self._page(page.next, limit, wanted)
        return _shown(page)

    async def _page(self, after: int, limit: int, wanted: Wanted) -> FeedPage:
        """Return a page of what there is. It ends with a whole row, so it may have more lines than `limit`."""
        found, seen = list[ListedRow](), after
        begins: int | None = None
        asks = asks_approval(self.service)
        while len(found) < limit and seen < self.service.feed.head and seen - after < SCANNED_MAX:
            # Whole portions, however few lines are asked for; others have their turn in between.
            await anyio.lowlevel.checkpoint()
            for row in await self._rows(seen, PAGE_LENGTH_MAX):
                if row.seq > seen + 1:
                    begins = row.seq  # The log has no gaps: what is before it was dropped.
                if wanted.may_be_in(row):
                    found += map(_without_artefact, filter(wanted.has, listed_lines(row, asks)))
                seen = row.seq
                if len(found) >= limit:
                    break
        return FeedPage(tuple(found), seen, self.service.feed.head, begins)

    async def _rows(self, after: int, limit: int) -> Sequence[LogRow]:
        rows = self.service.feed.after(after, limit)
        if rows is not None:
            return rows
        return await self.queries.log_rows(None, after_seq=after, limit=limit)

    async def _beyond(self, seq: int, request: Request) -> None:
        """Return once there is a row after `seq`, the feed is closed, or the reader is gone."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_when_gone, request, tasks.cancel_scope)
            await self.service.feed.beyond(seq)
            tasks.cancel_scope.cancel()


async def _end_when_gone(request: Request, scope: CancelScope) -> None:
    await until_gone(request)
    scope.cancel()


def _wanted(request: Request) -> Wanted:
    kind = _KIND.text(request)
    if kind is not None and kind not in KINDS:
        raise _KIND.refusal(f"one of {', '.join(KINDS)}", repr(kind))
    severity = _SEVERITY.text(request)
    if severity is not None and severity not in tuple(Severity):
        raise _SEVERITY.refusal(f"one of {', '.join(Severity)}", repr(severity))
    least = None if severity is None else Severity(severity)
    return Wanted(_ROLLOUT.text(request), _HOST.text(request), kind, least)


def _severity(line: ListedRow) -> Severity:
    assert line.severity is not None, line
    return Severity(line.severity)


def _without_artefact(line: ListedRow) -> ListedRow:
    """Return `line` without the bytes of an artefact: megabytes in a large fleet, which have calls of their own."""
    if "body" not in line.payload:
        return line
    said = {name: value for name, value in line.payload.items() if name != "body"}
    return evolve(line, payload=FrozenMap(said))


def _shown(page: FeedPage) -> Response:
    return bytes_answer(FEED_PAGE.encode(page), "application/json")


LOG_CALLS: Final[tuple[Call[LogRoutes], ...]] = (
    Call(
        "GET",
        paths.LOG,
        LogRoutes.log,
        Caller.READER,
        (
            Answer(200, "the lines, and after which row the next ones begin", FEED_PAGE),
            Answer(409, "the log is shorter than that: its database was lost"),
            Answer(429, "the operator has too many readers that wait"),
        ),
        query=(AFTER_ROW, LIMIT, FEED_WAIT, _ROLLOUT, _HOST, _KIND, _SEVERITY),
    ),
)
