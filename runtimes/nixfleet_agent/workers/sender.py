"""Sends what the journal holds, in order, until the control plane has made it durable.

Rows of one rollout never overtake each other. A rollout that the control plane does not know (yet) waits
without holding up the others. When no answer comes, everything waits, longer each time.
"""

import logging
from collections.abc import Iterable
from typing import assert_never

import anyio
import anyio.to_thread

from nixfleet_agent.inputs import (
    EventRejected,
    EventsAcknowledged,
    ReplayAsked,
    RolloutDisowned,
)
from nixfleet_agent.journal import Journal, JournalRow
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.post import Post
from nixfleet_agent.workers.trouble import Trouble
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope
from nixfleet_runtime.transport import (
    EventRefusal,
    EventRefused,
    ReplayFrom,
    RolloutUnknown,
    Transport,
    TransportFailed,
)

_log = logging.getLogger(__name__)


class Sender:
    """The task that empties the journal."""

    def __init__(
        self, hostname: str, journal: Journal, transport: Transport, post: Post, backoff: Backoff
    ) -> None:
        self._hostname = hostname
        self._journal = journal
        self._transport = transport
        self._post = post
        self._backoff = backoff
        self._trouble = Trouble(_log, "events wait in the journal")
        self._woken = anyio.Event()
        self._retry_after_seconds: float | None = None
        # Rollouts that are unknown there: theirs wait while others have something to say.
        self._disowned: set[RolloutId] = set()
        self._asked_before: ReplayFrom | None = None

    def wake(self) -> None:
        """Look into the journal again."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._woken = anyio.Event()
            self._retry_after_seconds = None
            unknown_before = len(self._disowned)
            rows = await self._unsent()
            if not rows and not self._disowned:
                await self._woken.wait()
            elif await self._send_all(rows):
                self._backoff.reset()
            elif len(self._disowned) == unknown_before:
                # Nobody else has anything to say, or nobody answers: ask again later, about all of them.
                self._disowned.clear()
                await self._backoff.wait(self._retry_after_seconds)

    async def _unsent(self) -> tuple[JournalRow, ...]:
        return await anyio.to_thread.run_sync(
            self._journal.unsent, BATCH_LENGTH_MAX, frozenset(self._disowned)
        )

    async def _send_all(self, rows: Iterable[JournalRow]) -> bool:
        """Send the rows of each rollout; return whether anything came of it."""
        by_rollout: dict[str, list[JournalRow]] = {}
        for row in rows:
            by_rollout.setdefault(row.rollout_id, []).append(row)
        moved = False
        for of_rollout in by_rollout.values():
            moved = await self._send(of_rollout) or moved
        return moved

    async def _send(self, rows: list[JournalRow]) -> bool:
        envelopes = tuple(
            AgentEventEnvelope(self._hostname, row.rollout_id, row.fact) for row in rows
        )
        try:
            outcome = await self._transport.post_events(envelopes)
        except TransportFailed as error:
            self._trouble.goes_on(error.kind, error)
            self._retry_after_seconds = error.retry_after_seconds
            return False
        self._trouble.is_over()
        accepted = tuple(row.row_id for row in rows[: outcome.accepted])
        if accepted:
            await self._post(EventsAcknowledged(accepted))
        if outcome.stopped_by is None:
            return True
        return await self._stopped(rows[outcome.accepted], outcome.stopped_by) or bool(accepted)

    async def _stopped(self, row: JournalRow, refusal: EventRefusal) -> bool:
        match refusal:
            case EventRefused():
                await self._post(EventRejected(row.row_id, refusal))
                return True
            case ReplayFrom():
                await self._post(ReplayAsked(refusal))
                # Asked for the same again, what was sent did not help: not in a hurry any more.
                is_new = refusal != self._asked_before
                self._asked_before = refusal
                return is_new
            case RolloutUnknown():
                # Its manifests may be on their way: keep the rows, and ask again.
                self._disowned.add(row.rollout_id)
                await self._post(RolloutDisowned(row.rollout_id))
                return False
            case _:
                assert_never(refusal)
