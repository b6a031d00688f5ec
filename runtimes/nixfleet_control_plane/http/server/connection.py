"""A connection before and after its requests: what uvicorn leaves to a proxy in front, so that none is needed.

At any time one of these is true of a connection: a deadline runs by which the client must have said something; the
keep-alive timer runs; a whole request is being answered, which is the application's time. Nothing here looks at what
a request asks for. Deadlines begin when all that came was looked at: most requests come whole, and have none.
uvicorn bounds neither heads nor how long they take nor how many requests are sent ahead, takes any byte for a sign of
life, and answers what is no HTTP in plain text. Its h11 protocol bounds heads alone.
Source: docs/spec/wire.md, Limits; RFC 9110 (408), RFC 6585 (431).
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable
from typing import ClassVar, cast

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from nixfleet_control_plane.http.answers import Refusal, problem_answer, refusal, unavailable
from nixfleet_control_plane.http.server.limits import Limits

GRACE_SECONDS = 2.0
"""How long an end may take to arrive."""
PIPELINED_MAX = 16
"""How many requests may wait behind one that is being answered. None of our clients does that."""
CONNECTIONS_TOLD_MAX = 100
"""How many beyond `connections_max` are told so; the rest are closed without a word."""


def connection_class(limits: Limits) -> type[asyncio.Protocol]:
    """Return the class of connections that keep to `limits`, for `uvicorn.Config(http=...)`."""
    return type("Connection", (Connection,), {"limits": limits})


class Connection(HttpToolsProtocol):
    """One connection. Made by uvicorn, of a class that `connection_class` returned."""

    limits: ClassVar[Limits]

    _is_in_head = False
    _is_new_head = False
    _is_in_body = False
    _head_bytes = 0
    _deadline: TimerHandle | None = None
    _stall: TimerHandle | None = None
    _ending: TimerHandle | None = None

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client say what it wants, if there is room for one more."""
        super().connection_made(cast("asyncio.Transport", transport))
        excess = len(self.connections) - self.limits.connections_max
        if excess > CONNECTIONS_TOLD_MAX:
            self.transport.abort()
            return
        if excess > 0:
            self.app = _answer(self._too_many_connections())
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        for timer in (self._deadline, self._stall, self._ending):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came. A head that is not complete yet may not have become too large."""
        if self.transport.is_closing():
            return
        self._is_new_head = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head and not self._is_new_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes_max:
                self._refuse(self._too_large_head())
                return
        self._expect_more()

    def pause_writing(self) -> None:
        """The client does not take its answer; it has so long to begin again."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.limits.answer_seconds_max, self.transport.abort)

    def resume_writing(self) -> None:
        """The client takes its answer."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # What the parser says.

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_in_head = self._is_new_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is complete; its size is known."""
        if len(self.pipeline) >= PIPELINED_MAX:
            # uvicorn would take in all that comes; the parser stops, and with it the connection.
            raise BufferError(f"more than {PIPELINED_MAX} requests wait")
        if b"#" in self.url:
            # uvicorn would drop what follows, and what was signed would not be what was sent.
            raise ValueError("a request's target has no fragment")
        self._is_in_head = False
        self._is_in_body = True
        self._expect_nothing()
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        if len(self.url) + lines > self.limits.header_bytes_max:
            self.app = _answer(self._too_large_head())
        super().on_headers_complete()
        assert self.parser is not None
        if self.parser.should_upgrade():
            # We speak one protocol. What comes after the request may be in another.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._is_in_body = False
        self._expect_nothing()
        super().on_message_complete()

    # What uvicorn says.

    def on_response_complete(self) -> None:
        """The answer is written; if it was the last, the connection ends with it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for some time."""
        self._end()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(
            refusal(
                "not-http", "Not an HTTP request", 400, "expected HTTP/1.1, found something else"
            )
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line in the log."""

    # Deadlines and ends.

    def _expect_more(self) -> None:
        """Set a deadline for what the client has to say next, unless one runs or it has nothing to say."""
        if self._deadline is not None:
            return
        if self._is_in_body:
            self._expect(self.limits.body_seconds_max, self._refuse_slow_body)
        elif self._is_in_head or self._is_idle():
            # A byte that begins nothing is no sign of life.
            self._expect(self.limits.header_seconds_max, self._refuse_slow_head)

    def _expect(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self._deadline = self.loop.call_later(seconds, otherwise)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_idle(self) -> bool:
        if self._is_in_head:
            return False
        cycle = self._latest
        return cycle is None or (cycle.response_complete and not cycle.more_body)

    @property
    def _latest(self) -> RequestResponseCycle | None:
        """The request that came last. uvicorn has `None` there at first, and does not say so."""
        return self.cycle

    def _refuse_slow_head(self) -> None:
        if not self._is_in_head:
            self._end()  # Nothing was asked, so nothing is answered.
            return
        seconds = self.limits.header_seconds_max
        self._refuse(
            refusal("too-slow", "The head came too slowly", 408, f"expected it in {seconds:g} s")
        )

    def _refuse_slow_body(self) -> None:
        cycle = self._latest
        if cycle is None or cycle.response_started:
            self._end()  # It was answered without its body.
            return
        seconds = self.limits.body_seconds_max
        self._refuse(
            refusal("too-slow", "The body came too slowly", 408, f"expected it in {seconds:g} s")
        )

    def _refuse(self, refused: Refusal) -> None:
        """Write an answer past the application, unless that would get into another one, and end."""
        if self._may_write():
            self.transport.write(_raw(refused))
        cycle = self._latest
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._end()

    def _may_write(self) -> bool:
        cycle = self._latest
        if cycle is None or cycle.response_complete:
            return True
        return not self.pipeline and cycle.more_body and not cycle.response_started

    def _end(self) -> None:
        """Close, and not wait for ever until what was written is taken."""
        self.transport.close()
        if self._ending is None:
            self._ending = self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    def _too_many_connections(self) -> Refusal:
        detail = f"{self.limits.connections_max} connections are open, which is as many as may"
        return unavailable("Too many connections", detail, retry_after_seconds=5)

    def _too_large_head(self) -> Refusal:
        return refusal(
            "too-large-head",
            "The headers are too large",
            431,
            f"expected at most {self.limits.header_bytes_max} bytes, with the request line",
        )


def _answer(refused: Refusal) -> ASGIApp:
    """The application that says so to every request, and that it was the last one."""
    headers = {**refused.headers, "Connection": "close"}
    return problem_answer(refused.problem, headers)


def _raw(refused: Refusal) -> bytes:
    """The answer as bytes, for those whose request never was one."""
    answer = problem_answer(refused.problem, {**refused.headers, "Connection": "close"})
    lines = [b"%s: %s\r\n" % header for header in answer.raw_headers]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body)])
