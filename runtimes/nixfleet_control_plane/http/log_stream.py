"""The log as a stream of events (SSE): frames of lines, at most four a second, until the reader is gone or cut off.

All readers who want every line get the same frames: they go on with the beats of the feed, so that a frame is made
once. Nothing is kept for a reader but the row that it has reached. One that does not take a frame within the time
of eight is cut off, and resumes with the last id that it has.
Source: docs/spec/wire.md, The feed.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

import anyio
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nixfleet_control_plane.feed import BEAT_SECONDS, IDLE_SECONDS, Feed
from nixfleet_control_plane.http.log_lines import EVERY_LINE, Line, LogLines, Wanted, page_bytes
from nixfleet_control_plane.http.server.limits import Pollers
from nixfleet_control_plane.http.server.presence import end_when_gone
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.reading.queries import NotReadable

MEDIA_TYPE: Final = "text/event-stream"
FRAMES_BEHIND_MAX: Final = 8
ROWS_A_FRAME: Final = 2_000
BYTES_A_FRAME: Final = 512 * 1024
"""A frame ends with the row that reaches this: a copy of it waits for each reader that is slow."""
FRAMES_KEPT: Final = 16
_BEGIN: Final = b"retry: 1000\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_log = logging.getLogger(__name__)


@frozen
class Frame:
    """What is sent at once. data: empty, if no line of the rows is wanted. seq: the last row that was looked at."""

    seq: int
    data: bytes


class Frames:
    """Makes frames, each once. rows_after: the rows after a row, oldest first, from memory or the store."""

    def __init__(
        self,
        feed: Callable[[], Feed],
        lines: LogLines,
        rows_after: Callable[[int, int], Awaitable[Sequence[LogRow]]],
    ) -> None:
        self.feed = feed
        self._lines = lines
        self._rows_after = rows_after
        self._shared: dict[tuple[int, int], Frame] = {}

    async def after(self, seq: int, wanted: Wanted) -> Frame:
        """Return the frame of the rows after `seq`. Raises: NotReadable."""
        head = self.feed().head
        if wanted != EVERY_LINE:
            return self._made(seq, head, wanted, await self._rows_after(seq, ROWS_A_FRAME))
        # While a reader is far behind, rows that come meanwhile do not change its frame.
        key = seq, min(head, seq + ROWS_A_FRAME)
        known = self._shared.get(key)
        if known is None:
            known = self._made(seq, head, wanted, await self._rows_after(seq, ROWS_A_FRAME))
            self._shared[key] = known
            if len(self._shared) > FRAMES_KEPT:
                del self._shared[next(iter(self._shared))]
        return known

    def _made(self, seq: int, head: int, wanted: Wanted, rows: Sequence[LogRow]) -> Frame:
        if not rows:
            return Frame(seq, b"")
        begins = rows[0].seq if rows[0].seq > seq + 1 else None
        lines, last, size = list[Line](), seq, 0
        for row in rows:
            last = row.seq
            if wanted.may_be_in(row):
                found = [line for line in self._lines.of(row) if wanted.has(line)]
                lines += found
                size += sum(len(line.data) for line in found)
                if size >= BYTES_A_FRAME:
                    break
        if not lines and begins is None:
            return Frame(last, b"")
        page = page_bytes(lines, last, head, begins)
        return Frame(last, b"id: %d\ndata: %b\n\n" % (last, page))


class LogStream(Response):
    """The response to one reader. after: the row that it has. is_permitted: whether it may go on reading.

    seconds: the clock by which a reader is too slow.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        request: Request,
        frames: Frames,
        after: int,
        wanted: Wanted,
        viewers: Pollers,
        operator: str,
        is_permitted: Callable[[], bool],
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__()
        self._request = request
        self._frames = frames
        self._after = after
        self._wanted = wanted
        self._viewers = viewers
        self._operator = operator
        self._is_permitted = is_permitted
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the reader is gone, is cut off, or the control plane closes.

        Raises: Refusal, NotReadable; both before the response begins.
        """
        with self._viewers.waiting(self._operator):
            # Before the response begins, so that a store which cannot be read is a refusal.
            first = await self._frames.after(self._after, self._wanted)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end_when_gone, self._request, tasks.cancel_scope)
                headers = list(_HEADERS)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await self._sent(send, _BEGIN)
                await self._follow(send, first)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()

    async def _follow(self, send: Send, frame: Frame) -> None:
        quiet_since = self._seconds()
        while self._is_permitted():
            feed = self._frames.feed()
            beats = feed.beats
            self._after = frame.seq
            data = frame.data
            if not data and self._seconds() - quiet_since >= IDLE_SECONDS:
                # An event without data tells a reader where it is, and no listener.
                data = b": %d\nid: %d\n\n" % (feed.head, self._after)
            if data:
                if not await self._sent(send, data):
                    return
                quiet_since = self._seconds()
            if feed.is_closed:
                return
            if self._after < feed.head:
                # It is behind, and beats are for rows that are new.
                await anyio.sleep(BEAT_SECONDS)
            else:
                await feed.next_beat(beats)
            try:
                frame = await self._frames.after(self._after, self._wanted)
            except NotReadable as error:
                _log.error("a reader of the log is cut off at row %d: %s", self._after, error)
                return

    async def _sent(self, send: Send, data: bytes) -> bool:
        """Send, and return whether the reader took it in time."""
        began = self._seconds()
        await send({"type": "http.response.body", "body": data, "more_body": True})
        return self._seconds() - began < BEAT_SECONDS * FRAMES_BEHIND_MAX
