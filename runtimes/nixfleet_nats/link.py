"""An agent's way to its control plane over NATS: one connection, made when it is first needed, and again after its end.

Requests wait here for their answers. Nothing is retried: a request without an answer fails, and the caller repeats it.
"""

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from attrs import define, field

from nixfleet_nats.calls import NO_RESPONDERS, Answer, Assembly, MessageMalformed, Request
from nixfleet_nats.connection import Connection, Message, connect
from nixfleet_nats.errors import NatsUnusable
from nixfleet_nats.names import Names
from nixfleet_nats.nkeys import NonceRefused, Owner, nkey_of
from nixfleet_nats.positions import NOWHERE, Desired, Position, decode_desired
from nixfleet_nats.target import Target
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import Signer

_STATUS: Final = "Status"
_log = logging.getLogger(__name__)


class LinkFailed(NixfleetError):
    """A request got no answer. kind: the class of the cause."""

    def __init__(self, problem: str, kind: str) -> None:
        super().__init__(problem, kind)
        self.problem = problem
        self.kind = kind

    def __str__(self) -> str:
        return self.problem


@define(eq=False)
class _Waiting:
    """A request that waits. outcome: its answer, or why there is none."""

    assembly: Assembly
    over: anyio.Event = field(factory=anyio.Event)
    outcome: Answer | LinkFailed | None = None

    def end(self, outcome: Answer | LinkFailed) -> None:
        self.outcome = outcome
        self.over.set()


class Link:
    """Asks for one host."""

    def __init__(self, target: Target, hostname: str, key: Signer) -> None:
        self.target = target
        self.hostname = hostname
        self.nkey = nkey_of(key.public_key, Owner.USER)
        self._key = key
        self._connecting = anyio.Lock()
        self._open: Connection | None = None
        self._is_known = False
        self._numbers = itertools.count()
        self._waiting: dict[str, _Waiting] = {}
        self._desired: Desired | None = None
        self._changed = anyio.Event()

    @property
    def names(self) -> Names:
        """The names of everything on the server."""
        return self.target.names

    async def is_known(self) -> bool:
        """Return whether the control plane let this host in under its name, and not only to enroll.

        Raises: LinkFailed.
        """
        await self._connection()
        return self._is_known

    async def ask(self, subject: str, request: Request, answer_bytes_max: int) -> Answer:
        """Send a request and return its answer. Raises: LinkFailed."""
        connection = await self._connection()
        token, waiting = str(next(self._numbers)), _Waiting(Assembly(answer_bytes_max))
        self._waiting[token] = waiting
        try:
            with self._failing():
                await connection.publish(
                    subject,
                    request.body,
                    request.message_headers,
                    f"{connection.inbox}.{token}",
                )
            await waiting.over.wait()
        finally:
            del self._waiting[token]
        if isinstance(waiting.outcome, Answer):
            return waiting.outcome
        assert waiting.outcome is not None, "it is over"
        raise waiting.outcome

    def desired(self) -> Desired | None:
        """Return the last dispatch that was published for the host on this connection."""
        return self._desired

    async def desired_after(self, position: Position) -> Desired:
        """Return a dispatch that was queued after `position`, once one is published. Raises: LinkFailed."""
        while True:
            changed = self._changed
            if self._open is None:
                raise self._gone()
            if self._desired is not None and self._desired.position > position:
                return self._desired
            await changed.wait()

    async def hang_up(self) -> None:
        """End the connection, if there is one; the next request makes another."""
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()
            self._end_all()

    async def watch(self) -> None:
        """Fail what waits when a connection ends, without end. To be run beside all else."""
        while True:
            changed, connection = self._changed, self._open
            if connection is None:
                await changed.wait()
                continue
            await connection.closed.wait()
            if self._open is connection:
                self._open = None
                self._end_all()

    async def _connection(self) -> Connection:
        async with self._connecting:
            if self._open is not None and not self._open.closed.is_set():
                return self._open
            if self._open is not None:
                # It ended just now: what waits on it must not wait for what comes after it.
                self._open = None
                self._end_all()
            with self._failing():
                self._open = await self._connected()
            self._desired = None
            self._notify()
            return self._open

    async def _connected(self) -> Connection:
        inbox = self.names.inbox(self.nkey)
        connection = await connect(self.target, self._key, self.hostname, inbox)
        try:
            await connection.subscribe(f"{inbox}.*", self._take_answer)
            await connection.subscribe(self.names.desired_state(self.hostname), self._take_desired)
            await connection.settle()
        except BaseException:
            await connection.close()
            raise
        # A server that does not know the key lets its owner enroll, and see nothing of the host.
        self._is_known = not connection.denied
        return connection

    async def _take_answer(self, message: Message) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None:
            return  # Its caller was cancelled.
        if (message.headers or {}).get(_STATUS) == NO_RESPONDERS:
            problem = f"{self.target.where}: no control plane answers there: check that it runs"
            waiting.end(LinkFailed(problem, "NoResponders"))
            return
        try:
            answer = waiting.assembly.add(message.headers, message.data)
        except MessageMalformed as error:
            waiting.end(LinkFailed(f"the answer cannot be read: {error}", "AnswerMalformed"))
            return
        if answer is not None:
            waiting.end(answer)

    async def _take_desired(self, message: Message) -> None:
        desired = decode_desired(message.data)
        known = NOWHERE if self._desired is None else self._desired.position
        # A lower one is of a control plane that was replaced, or of a value that was on its way for long.
        if desired is not None and desired.position > known:
            self._desired = desired
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _end_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.over.is_set():
                waiting.end(self._gone())
        self._notify()

    def _gone(self) -> LinkFailed:
        return LinkFailed(f"the connection to {self.target.where} ended", "ConnectionEnded")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (NatsUnusable, NonceRefused, OSError) as error:
            raise LinkFailed(str(error), type(error).__name__) from error
