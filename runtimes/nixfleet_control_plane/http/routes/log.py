"""The log as a feed: its lines, as they become durable, for readers who follow it.

Rows come from memory; what is older is read from the store. Each line says what happened in the words of `log show`.
Source: docs/spec/wire.md, The feed.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final, Self

import anyio
import anyio.lowlevel
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator, OperatorRequest
from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.listed_lines import asks_approval
from nixfleet_control_plane.http.log_lines import Line, LogLines, Wanted, page_bytes
from nixfleet_control_plane.http.log_rows import LogRows
from nixfleet_control_plane.http.log_stream import MEDIA_TYPE, Frames, LogStream
from nixfleet_control_plane.http.query import AFTER_ROW, FEED_WAIT, LIMIT, Parameter
from nixfleet_control_plane.http.server.limits import FEED_SECONDS_MAX, Pollers
from nixfleet_control_plane.http.server.presence import end_when_gone
from nixfleet_control_plane.messages.log_entry import ENTRY_KINDS
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import FEED_PAGE, PAGE_LENGTH_MAX
from nixfleet_state_machine.shards.shard_map import MAIN

KINDS: Final = (*ENTRY_KINDS, "agent_event")
"""The kinds of lines. A report of a host, `agent_events`, has lines of kind `agent_event` or `fact_refused`."""
SCANNED_MAX: Final = 20 * PAGE_LENGTH_MAX
"""How many rows one request looks at for lines that match: then it answers how far it came."""
PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A page ends with the row that reaches this."""

_SHARD: Final = Parameter(
    "shard", "the log of this shard; `main`, if none is named", {"type": "string"}
)
_ROLLOUT: Final = Parameter("rollout", "only lines about this rollout", {"type": "string"})
_HOST: Final = Parameter("host", "only lines about this host", {"type": "string"})
_KIND: Final = Parameter("kind", "only lines of this kind", {"type": "string", "enum": KINDS})
_SEVERITY: Final = Parameter(
    "severity",
    "only lines that matter so much, or more",
    {"type": "string", "enum": tuple(map(str, Severity))},
)


@frozen
class _Page:
    """Lines after a row. next: the last row that was looked at. head, begins: as in `FeedPage`."""

    lines: tuple[Line, ...]
    next: int
    head: int
    begins: int | None

    def shown(self) -> Response:
        """Return the page as a response."""
        body = page_bytes(self.lines, self.next, self.head, self.begins)
        return bytes_answer(body, "application/json")


@frozen
class LogRoutes:
    """The feed. viewers: those that wait for the log to grow. others: of the shards beside `main`. Made by `of`."""

    service: ControlPlaneService
    authenticator: Authenticator
    rows: LogRows
    viewers: Pollers
    lines: LogLines
    frames: Frames
    others: Mapping[str, "LogRoutes"] = FrozenMap()

    @classmethod
    def of(
        cls,
        service: ControlPlaneService,
        authenticator: Authenticator,
        queries: Queries,
        viewers: Pollers,
    ) -> Self:
        """Return the routes of a control plane: its readers share the lines and the frames."""
        lines, rows = LogLines(asks_approval(service)), LogRows(lambda: service.feed, queries)
        frames = Frames(lambda: service.feed, lines, rows.after)
        others = {
            name: cls.of(other, authenticator, read, viewers)
            for name, (other, read) in service.other_logs().items()
        }
        return cls(service, authenticator, rows, viewers, lines, frames, FrozenMap(others))

    async def log(self, request: Request) -> Response:
        """200 with lines of the log after a row; it may wait for them, or go on as a stream."""
        asked = await self.authenticator.operator(request, OperatorRole.READ)
        return await self._of_shard(_SHARD.text(request))._answer(request, asked)

    def _of_shard(self, name: str | None) -> "LogRoutes":
        if name is None or name == MAIN:
            return self
        if name not in self.others:
            raise refusal(
                "shard-unknown",
                "The shard is unknown",
                404,
                str(unknown("", "shard", name, (MAIN, *self.others))),
            )
        return self.others[name]

    async def _answer(self, request: Request, asked: OperatorRequest) -> Response:
        is_stream = _asks_for_stream(request)
        after = _after(request, is_stream=is_stream)
        limit = min(LIMIT.of(request), PAGE_LENGTH_MAX)
        wait_seconds = min(FEED_WAIT.of(request), FEED_SECONDS_MAX)
        wanted = _wanted(request)
        feed = self.service.feed
        if after > feed.head:
            detail = f"expected a row from 0 to {feed.head}, the last one, found {after}"
            raise refusal("log-shorter", "The log has no such row", 409, detail)
        is_permitted = partial(self.authenticator.is_current, asked.operator)
        if is_stream:
            name = asked.operator.name
            return LogStream(request, self.frames, after, wanted, self.viewers, name, is_permitted)
        page = await self._page(after, limit, wanted)
        if page.lines or page.begins or page.next < page.head or not wait_seconds:
            return page.shown()
        with self.viewers.waiting(asked.operator.name), anyio.move_on_after(wait_seconds):
            while not page.lines and page.begins is None and not feed.is_closed:
                if not await self._is_beyond(page.next, request):
                    break
                page = await self._page(page.next, limit, wanted)
        self.authenticator.require_current_operator(asked.operator)
        return page.shown()

    async def _page(self, after: int, limit: int, wanted: Wanted) -> _Page:
        """Return a page of what there is. It ends with a whole row, so it may have more lines than `limit`."""
        found, seen = list[Line](), after
        begins: int | None = None
        room = PAGE_BYTES_MAX
        while (
            room > 0
            and len(found) < limit
            and seen < self.service.feed.head
            and seen - after < SCANNED_MAX
        ):
            # Whole portions, however few lines are asked for; others have their turn in between.
            await anyio.lowlevel.checkpoint()
            for row in await self.rows.after(seen, PAGE_LENGTH_MAX):
                if row.seq > seen + 1:
                    begins = row.seq  # The log has no gaps: what is before it was dropped.
                if wanted.may_be_in(row):
                    lines = [line for line in self.lines.of(row) if wanted.has(line)]
                    found += lines
                    room -= sum(len(line.data) for line in lines)
                seen = row.seq
                if len(found) >= limit or room <= 0:
                    break
        return _Page(tuple(found), seen, self.service.feed.head, begins)

    async def _is_beyond(self, seq: int, request: Request) -> bool:
        """Wait until there is a row after `seq`, or the feed is closed; return whether the reader is still there."""
        is_there = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_when_gone, request, tasks.cancel_scope)
            await self.service.feed.beyond(seq)
            is_there = True
            tasks.cancel_scope.cancel()
        return is_there


def _wanted(request: Request) -> Wanted:
    kind = _KIND.text(request)
    if kind is not None and kind not in KINDS:
        raise _KIND.refusal(f"one of {', '.join(KINDS)}", repr(kind))
    severity = _SEVERITY.text(request)
    if severity is not None and severity not in tuple(Severity):
        raise _SEVERITY.refusal(f"one of {', '.join(Severity)}", repr(severity))
    least = None if severity is None else Severity(severity)
    return Wanted(_ROLLOUT.text(request), _HOST.text(request), kind, least)


def _asks_for_stream(request: Request) -> bool:
    accepted = request.headers.get("accept", "").split(",")
    return MEDIA_TYPE in {each.partition(";")[0].strip().lower() for each in accepted}


def _after(request: Request, *, is_stream: bool) -> int:
    """Return the row after which to begin: of a stream that is resumed, the last one that its reader has."""
    resumed = request.headers.get("last-event-id") if is_stream else None
    return AFTER_ROW.of(request) if resumed is None else AFTER_ROW.number(resumed)


LOG_CALLS: Final[tuple[Call[LogRoutes], ...]] = (
    Call(
        "GET",
        paths.LOG,
        LogRoutes.log,
        Caller.READER,
        (
            Answer(
                200,
                "the lines, and after which row the next ones begin; with `Accept: text/event-stream` a stream of "
                "events, each of which has such a page as its data, and the last row as its id",
                FEED_PAGE,
            ),
            Answer(404, "the shard is unknown"),
            Answer(409, "the log is shorter than that: its database was lost"),
            Answer(429, "the operator has too many readers that wait"),
        ),
        query=(AFTER_ROW, LIMIT, FEED_WAIT, _SHARD, _ROLLOUT, _HOST, _KIND, _SEVERITY),
    ),
)
