"""The control plane's end: keeps a connection to NATS, on which it admits hosts, answers them, and shows dispatches.

A server that is not there is no reason not to start: operators and hosts over HTTP go on, and hosts over NATS keep
what they have to say. A server that is there and cannot be used is.
Source: docs/spec/nats.md.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import anyio
from anyio.abc import TaskStatus
from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_nats.buckets import Buckets
from nixfleet_nats.callout import SESSION, Callout, Session
from nixfleet_nats.claims import CalloutMalformed
from nixfleet_nats.connection import Connection, Message, connect
from nixfleet_nats.errors import NatsUnusable, PermissionMissing, ServerUnreachable
from nixfleet_nats.names import CALLOUT_SUBJECT
from nixfleet_nats.nkeys import NonceRefused, Owner, nkey_of
from nixfleet_nats.projection import Projection
from nixfleet_nats.responder import QUEUE, Responder
from nixfleet_nats.server_config import ACCOUNT_DEFAULT
from nixfleet_nats.target import FLEET_DEFAULT, Target
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.visible import visible

AGAIN_SECONDS: Final = 0.25
"""After the end of a connection; twice as long after each attempt that fails. Soon, for a server asks this control
plane whether hosts may connect, and they come back within a second."""
AGAIN_SECONDS_MAX: Final = 5.0
LOOKED_SECONDS: Final = 1.0
"""How soon the connection of a host that was revoked is ended, at the latest."""
SESSIONS_UNCHECKED_MAX: Final = 100_000
"""How many connections are remembered before those that are over are forgotten."""
NAME: Final = "nixfleet control plane"
_log = logging.getLogger(__name__)


@frozen
class ControlPlaneEnd:
    """Serves hosts over NATS. key: the control plane's, which is the account's issuer too. clock: the machine's."""

    target: Target
    key: SigningKey
    clock: Clock
    account: str = ACCOUNT_DEFAULT
    fleet: str = FLEET_DEFAULT

    @asynccontextmanager
    async def serve_requests(
        self, service: ControlPlaneService, app: ASGIApp
    ) -> AsyncIterator[None]:
        """Answer while the context is open. Raises: NatsUnusable, if a server that is there cannot be used."""
        problem: NatsUnusable | None = None
        async with anyio.create_task_group() as tasks:
            try:
                await tasks.start(self._keep_serving, service, app)
            except NatsUnusable as error:
                problem = error
            else:
                try:
                    yield
                finally:
                    tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem

    async def _keep_serving(
        self, service: ControlPlaneService, app: ASGIApp, *, task_status: TaskStatus[None]
    ) -> None:
        """Serve on one connection after another, without end. Only the first may fail for good."""
        problem, is_started, again_seconds = "", False, AGAIN_SECONDS
        while True:
            try:
                async with self._connected() as connection, _served(self, connection, service, app):
                    _log.info("hosts over NATS are served at %s", self.target.where)
                    problem, again_seconds = "", AGAIN_SECONDS
                    if not is_started:
                        task_status.started()
                        is_started = True
                    await connection.closed.wait()
                _log.warning("the connection to %s ended", self.target.where)
            except (NatsUnusable, NonceRefused) as error:
                if not is_started and not isinstance(error, ServerUnreachable):
                    raise
                if str(error) != problem:
                    _log.error("no hosts over NATS: %s", error)
                problem = str(error)
                if not is_started:
                    task_status.started()
                    is_started = True
            await anyio.sleep(again_seconds)
            again_seconds = min(2 * again_seconds, AGAIN_SECONDS_MAX)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        inbox = self.target.names.inbox(nkey_of(self.key.public_key, Owner.USER))
        connection = await connect(self.target, self.key, NAME, inbox)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def _served(
    end: ControlPlaneEnd, connection: Connection, service: ControlPlaneService, app: ASGIApp
) -> AsyncIterator[None]:
    """Serve on a connection while the context is open, and while the connection is. Raises: NatsUnusable."""
    projection = Projection(Buckets(connection, end.fleet), service, end.clock)
    await projection.prepare()
    admission = Admission(end, connection, service, projection.admitted)
    problem: NatsUnusable | None = None
    async with anyio.create_task_group() as tasks:
        responder = Responder(connection, app, tasks, projection.position, projection.heard)
        with service.following(projection.committed):
            try:
                await responder.listen()
                await admission.listen()
                await connection.settle()
                _require_permitted(connection)
            except NatsUnusable as error:
                problem = error  # Raised below: a task group would wrap it.
            else:
                tasks.start_soon(projection.run)
                tasks.start_soon(admission.run)
                try:
                    yield
                finally:
                    await responder.finish()
            tasks.cancel_scope.cancel()
    if problem is not None:
        raise problem


def _require_permitted(connection: Connection) -> None:
    if connection.denied:
        raise PermissionMissing(
            connection.target.where,
            "a user that may do everything in its account",
            connection.denied[-1],
            "use the users and accounts that `nixfleet control-plane nats-server` prints",
        )


class Admission:
    """Answers the server that asks who may connect, and ends connections whose key came to count for another."""

    def __init__(
        self,
        end: ControlPlaneEnd,
        connection: Connection,
        service: ControlPlaneService,
        admitted: Callable[[Session], None],
    ) -> None:
        self._admitted = admitted
        self._connection = connection
        self._callout = Callout(end.target.names, end.account, end.key, service.ring)
        self._clock = end.clock
        self._service = service
        self._ring = service.ring()
        self._sessions: dict[tuple[str, int], tuple[Session, datetime]] = {}

    async def listen(self) -> None:
        """Begin to answer. Each fleet of the account is asked, and the one that is looked for answers."""
        prefix = self._connection.target.names.prefix
        await self._connection.subscribe(CALLOUT_SUBJECT, self._take, f"{prefix}-{QUEUE}")

    async def _take(self, message: Message) -> None:
        now = self._clock.now()
        try:
            answer, session = self._callout.answer(message.data, now)
            if answer is not None:
                await self._connection.publish(message.reply, answer)
        except (CalloutMalformed, NatsUnusable) as error:
            _log.warning("NATS: a connection was not let in: %s", error)
            return
        if session is not None:
            self._sessions[session.server, session.client_id] = session, now + SESSION
            self._admitted(session)

    async def run(self) -> None:
        """End connections of hosts that are revoked, have another key, or were enrolled meanwhile, without end."""
        while True:
            await anyio.sleep(LOOKED_SECONDS)
            ring, now = self._service.ring(), self._clock.now()
            if ring is self._ring and len(self._sessions) <= SESSIONS_UNCHECKED_MAX:
                continue
            self._ring = ring
            for place, (session, until) in tuple(self._sessions.items()):
                if until < now:
                    del self._sessions[place]
                elif not self._callout.is_current(session):
                    del self._sessions[place]
                    await self._kick(session)

    async def _kick(self, session: Session) -> None:
        _log.info(
            "NATS: the connection of %s is ended: its key counts for another now, or for none",
            visible(session.name[:80]),
        )
        body = json.dumps({"cid": session.client_id}).encode()
        # The server does nothing without somebody to answer; the answer says nothing that is needed.
        reply = f"{self._connection.inbox}.kicked"
        subject = f"$SYS.REQ.SERVER.{session.server}.KICK"
        try:
            await self._connection.publish(subject, body, reply=reply)
        except NatsUnusable as error:
            # Its requests are refused all the same, and its session ends within the hour.
            _log.warning("NATS: a connection was not ended: %s", error)
