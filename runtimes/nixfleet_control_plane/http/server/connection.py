"""Limits of a connection that uvicorn leaves to a proxy in front, so that none is needed.

At any time exactly one of these holds: a deadline for the client's next data is running; the keep-alive timer is
running; a complete request is being answered, which is the application's time. This module never interprets requests.
A deadline starts once all received data has been processed: most requests arrive in one piece and need none. uvicorn
limits neither the size nor the duration of heads nor the number of pipelined requests, accepts any byte as activity,
and answers invalid HTTP in plain text. Its h11 protocol limits only the size of heads.
Source: docs/spec/wire.md, Limits; RFC 9110 (408), RFC 6585 (431).
"""

import asyncio
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from typing import ClassVar, cast

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from nixfleet_control_plane.http.answers import Refusal, problem_answer, refusal, unavailable
from nixfleet_control_plane.http.server.limits import HeldBodies, Limits
from nixfleet_runtime.http.problem import TYPE_PREFIX

GRACE_SECONDS = 2.0
"""How long a closing connection may take to send what was written, before it is aborted."""
PIPELINED_MAX = 16
"""How many pipelined requests may wait behind the one being answered. Our clients never pipeline."""
EXCESS_ANSWERED_MAX = 100
"""How many connections beyond `connections_max` get a 503; further ones are closed without a response."""


def connection_class(
    limits: Limits, on_refused: Callable[[str], None] = lambda _: None
) -> type[asyncio.Protocol]:
    """Return the class of connections that enforce `limits`, for `uvicorn.Config(http=...)`.

    on_refused: called with the name of the problem that a connection answers with by itself.
    """
    members = {
        "limits": limits,
        "bodies": HeldBodies(limits.bodies_bytes_max),
        "note_refusal": lambda _, cause: on_refused(cause),
    }
    return type("Connection", (Connection,), members)


class Connection(HttpToolsProtocol):
    """One connection. uvicorn creates it, from a class that `connection_class` returned."""

    limits: ClassVar[Limits]
    bodies: ClassVar[HeldBodies]

    _is_in_head = False
    _is_new_head = False
    _is_in_body = False
    _head_bytes = 0
    _deadline: TimerHandle | None = None
    _stall: TimerHandle | None = None
    _ending: TimerHandle | None = None
    _is_left_unread = False
    _keeps_alive = True
    _held: deque[int]
    _early_end: "_EarlyEnd"

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection if the limit allows it."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._held = deque()
        self._early_end = _EarlyEnd(self)
        excess = len(self.connections) - self.limits.connections_max
        if excess > EXCESS_ANSWERED_MAX:
            self.transport.abort()
            return
        if excess > 0:
            self.app = self._answering(self._too_many_connections())
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        for timer in (self._deadline, self._stall, self._ending):
            if timer is not None:
                timer.cancel()
        self._release_bodies()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and refuse an incomplete head that is already too large."""
        if self.transport.is_closing() or self._is_left_unread:
            return
        self._is_new_head = False
        super().data_received(data)
        if self.transport.is_closing() or self._is_left_unread:
            return
        if self._is_in_head and not self._is_new_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.header_bytes_max:
                self._refuse(self._too_large_head())
                return
        self._expect_more()

    def pause_writing(self) -> None:
        """The client does not read its response: abort unless it resumes within `answer_seconds_max`."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.limits.answer_seconds_max, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads its response again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_in_head = self._is_new_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head is complete: check its size."""
        if len(self.pipeline) >= PIPELINED_MAX:
            # uvicorn would buffer without limit; an exception stops the parser and closes the connection.
            raise BufferError(f"more than {PIPELINED_MAX} pipelined requests")
        if b"#" in self.url:
            # uvicorn would drop the fragment, and the signed target would differ from the one received.
            raise ValueError("a request's target has no fragment")
        self._is_in_head = False
        self._is_in_body = True
        self._expect_nothing()
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        if len(self.url) + lines > self.limits.header_bytes_max:
            self.app = self._answering(self._too_large_head())
        super().on_headers_complete()
        self._held.append(0)
        assert self.parser is not None
        # No upgrade is supported: data after this request may be in another protocol.
        self._keeps_alive = self.cycle.keep_alive and not self.parser.should_upgrade()
        # A response that is sent before the body is complete is the last one: the rest of the body is not read.
        self.cycle.keep_alive = False
        self.cycle.transport = cast("asyncio.Transport", self._early_end)

    def on_body(self, body: bytes) -> None:
        """Hold a part of the body until the request is answered, if there is room."""
        if self._is_left_unread or self.transport.is_closing() or self.cycle.response_complete:
            return
        self._held[-1] += len(body)
        self.bodies.bytes += len(body)
        if self.bodies.is_over:
            self._refuse(self._too_many_bodies())
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._is_left_unread:
            return
        self._is_in_body = False
        self._expect_nothing()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        self.cycle.transport = self.transport
        super().on_message_complete()

    # Callbacks of uvicorn.

    def on_response_complete(self) -> None:
        """The response is written; if it was the last one, close the connection."""
        self.bodies.bytes -= self._held.popleft()
        if self._is_left_unread:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()

    def shutdown(self) -> None:
        """The server ends. Whoever was answered, and still sends, is waited for no longer."""
        if self._is_left_unread:
            self.transport.abort()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """The keep-alive timer has expired."""
        self._end()

    def send_400_response(self, msg: str) -> None:
        """The data is not HTTP."""
        self._refuse(
            refusal(
                "not-http", "Not an HTTP request", 400, "expected HTTP/1.1, found something else"
            )
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Suppress uvicorn's warning."""

    # Deadlines and closing.

    def _expect_more(self) -> None:
        """Start a deadline for the client's next data, unless one is running or none is expected."""
        if self._deadline is not None:
            return
        if self._is_in_body:
            self._expect(self.limits.body_seconds_max, self._refuse_slow_body)
        elif self._is_in_head or self._is_idle():
            # Also when idle: bytes that do not begin a request do not count as activity.
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
        """The latest request. `None` at first, which uvicorn's annotation omits."""
        return self.cycle

    def _refuse_slow_head(self) -> None:
        if not self._is_in_head:
            self._end()  # There is no request to answer.
            return
        seconds = self.limits.header_seconds_max
        self._refuse(
            refusal("too-slow", "The head arrived too slowly", 408, f"expected it in {seconds:g} s")
        )

    def _refuse_slow_body(self) -> None:
        cycle = self._latest
        if cycle is None or cycle.response_started:
            self._end()  # It was answered before its body was complete.
            return
        seconds = self.limits.body_seconds_max
        self._refuse(
            refusal("too-slow", "The body arrived too slowly", 408, f"expected it in {seconds:g} s")
        )

    def _refuse(self, refused: Refusal) -> None:
        """Write a response without the application, unless another one is being written, and close."""
        self.note_refusal(_name_of(refused))
        if self._may_write():
            self.transport.write(_raw(refused))
        cycle = self._latest
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._is_in_body:
            self.leave_unread()
        else:
            self._end()

    def note_refusal(self, cause: str) -> None:
        """A request is refused here. `connection_class` puts in who is to know."""

    def _answering(self, refused: Refusal) -> ASGIApp:
        self.note_refusal(_name_of(refused))
        return _answer(refused)

    def _may_write(self) -> bool:
        cycle = self._latest
        if cycle is None or cycle.response_complete:
            return True
        return not self.pipeline and cycle.more_body and not cycle.response_started

    def leave_unread(self) -> None:
        """End, as the rest of a body is not wanted. Closed at once, a client that still sends would lose the answer.

        Nothing more is read; the client has `GRACE_SECONDS` to read the answer.
        """
        if self._is_left_unread:
            return
        self._is_left_unread = True
        self._expect_nothing()
        self.flow.pause_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._ending = self.loop.call_later(GRACE_SECONDS, self.transport.abort)
        self._release_bodies()

    def _release_bodies(self) -> None:
        self.bodies.bytes -= sum(self._held)
        self._held = deque([0] * len(self._held))
        cycle = self._latest
        if cycle is not None:
            cycle.body = bytearray()

    def _end(self) -> None:
        """Close the connection; abort it if the client does not read the rest in time."""
        self.transport.close()
        if self._ending is None:
            self._ending = self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    def _too_many_connections(self) -> Refusal:
        detail = f"the limit of {self.limits.connections_max} connections is reached"
        return unavailable("Too many connections", detail, retry_after_seconds=5)

    def _too_many_bodies(self) -> Refusal:
        detail = f"bodies of {self.bodies.bytes_max} bytes are held, which is as many as may be"
        return unavailable("Too many bodies", detail, retry_after_seconds=1)

    def _too_large_head(self) -> Refusal:
        return refusal(
            "too-large-head",
            "The headers are too large",
            431,
            f"expected at most {self.limits.header_bytes_max} bytes, with the request line",
        )


class _EarlyEnd:
    """The transport, as a request that is answered before its body came sees it: its end leaves the rest unread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.leave_unread()


def _name_of(refused: Refusal) -> str:
    return refused.problem.type.removeprefix(TYPE_PREFIX)


def _answer(refused: Refusal) -> ASGIApp:
    """Return an application that answers every request with `refused` and closes the connection."""
    headers = {**refused.headers, "Connection": "close"}
    return problem_answer(refused.problem, headers)


def _raw(refused: Refusal) -> bytes:
    """Return the response as bytes, for a connection that has sent no complete request."""
    answer = problem_answer(refused.problem, {**refused.headers, "Connection": "close"})
    lines = [b"%s: %s\r\n" % header for header in answer.raw_headers]
    return b"".join([STATUS_LINE[answer.status_code], *lines, b"\r\n", bytes(answer.body)])
