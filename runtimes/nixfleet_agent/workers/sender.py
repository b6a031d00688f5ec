"""Sends what the journal holds, in order, until the control plane has made it durable.

Rows of one rollout never overtake each other. A rollout that the control plane does not know (yet) waits
without holding up the others. When no answer comes, everything waits, longer each time.
"""

import logging
from collections.abc import Iterable, Sequence

import anyio
import anyio.to_thread

from nixfleet_agent.journal.journal import Journal, JournalRow
from nixfleet_agent.journal.outbox import Sending, envelopes_of, rows_by_rollout
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import Post
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.wire import BATCH_LENGTH_MAX
from nixfleet_runtime.transport import Transport, TransportFailed

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
        self._trouble = Trouble(_log, "sending events, which wait in the journal,")
        self._woken = anyio.Event()
        self._retry_after_seconds: float | None = None
        self._sending = Sending()

    def wake(self) -> None:
        """Look into the journal again."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._woken = anyio.Event()
            self._retry_after_seconds = None
            rows = await self._unsent()
            if not rows and not self._sending.has_left_out:
                await self._woken.wait()
            elif await self._send_all(rows):
                self._backoff.reset()
            elif self._sending.must_wait():
                await self._backoff.wait(self._retry_after_seconds)

    async def _unsent(self) -> tuple[JournalRow, ...]:
        left_out = self._sending.look()
        return await anyio.to_thread.run_sync(self._journal.unsent, BATCH_LENGTH_MAX, left_out)

    async def _send_all(self, rows: Iterable[JournalRow]) -> bool:
        """Send the rows of each rollout; return whether anything came of it."""
        moved = False
        for of_rollout in rows_by_rollout(rows):
            moved = await self._send(of_rollout) or moved
        return moved

    async def _send(self, rows: Sequence[JournalRow]) -> bool:
        try:
            outcome = await self._transport.post_events(envelopes_of(self._hostname, rows))
        except TransportFailed as error:
            self._trouble.goes_on(error.kind, error)
            self._retry_after_seconds = error.retry_after_seconds
            return False
        self._trouble.is_over()
        sent = self._sending.after_answer(rows, outcome)
        for input in sent.inputs:
            await self._post(input)
        return sent.moved
