"""Sends the unsent rows of the journal, in order, until the control plane has made them durable. Sans I/O.

Rows of one rollout never overtake each other. A rollout that the control plane does not know (yet) waits without
blocking the others. When no answer comes, everything waits, longer each time. Facts that no rollout waits for linger a
moment, so that those of the next moments go with them: a request costs the control plane as much as ten facts.
Source: docs/spec/runtimes.md, Agent.
"""

import logging
from collections.abc import Generator, Sequence
from typing import Final

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.journal.outbox import Sending, envelopes_of, may_linger, rows_by_rollout
from nixfleet_agent.workers.answer_bounds import OUT_OF_BOUNDS, require_bounded_outcome
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import AgentStep, PostEvents, ReadUnsent, Wait, Wakeup, Work
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.wire import BATCH_LENGTH_MAX
from nixfleet_runtime.transport import EventEarly, HostHeld, TransportFailed

LINGERS_MAX: Final = 4
"""How often in a row facts linger, when others come each time."""


class Sender:
    """The worker that sends the journal's rows."""

    def __init__(
        self,
        hostname: str,
        linger_seconds: float,
        post: RetryingPost,
        backoff: Backoff,
        log: logging.Logger,
        contact: Contact,
    ) -> None:
        self._hostname = hostname
        self._linger_seconds = linger_seconds
        self._post = post
        self._backoff = backoff
        self._contact = contact
        self._trouble = Trouble(log, "sending events, which wait in the journal,")
        self._woken = Wakeup()
        self._retry_after_seconds: float | None = None
        self._was_answered = True
        self._sending = Sending()

    def wake(self) -> None:
        """Have `run` read the journal again."""
        self._woken.set()

    def run(self) -> Work:
        """Send without end."""
        lingered = 0
        while True:
            self._woken.clear()
            self._retry_after_seconds = None
            self._was_answered = True
            rows = yield from ReadUnsent(BATCH_LENGTH_MAX, self._sending.left_out())
            if not rows and not self._sending.has_left_out:
                yield from Wait(None, self._woken)
                continue
            if self._has_time(rows) and lingered < LINGERS_MAX:
                yield from Wait(self._linger_seconds, self._woken)
                # Whatever woke it is read, and goes at once if a rollout waits for it.
                lingered = lingered + 1 if self._woken.is_set else LINGERS_MAX
                continue
            lingered = 0
            moved = yield from self._send_all(rows)
            if self._sending.has_progressed:
                self._backoff.reset()
            if not moved and self._sending.must_wait():
                yield from self._backoff.pause(
                    self._retry_after_seconds, was_answered=self._was_answered
                )

    def _has_time(self, rows: Sequence[JournalRow]) -> bool:
        """Return whether all of the rows may linger, and more would fit beside them."""
        is_short = 0 < len(rows) < BATCH_LENGTH_MAX
        return self._linger_seconds > 0 and is_short and all(may_linger(row.fact) for row in rows)

    def _send_all(self, rows: Sequence[JournalRow]) -> Generator[AgentStep, object, bool]:
        """Send the rows of each rollout; return whether there was any progress."""
        moved = False
        for of_rollout in rows_by_rollout(rows):
            moved |= yield from self._send(of_rollout)
        return moved

    def _send(self, rows: Sequence[JournalRow]) -> Generator[AgentStep, object, bool]:
        rows = self._sending.sendable(tuple(rows))
        try:
            with self._contact.noted():
                outcome = yield from PostEvents(envelopes_of(self._hostname, rows))
            require_bounded_outcome(outcome, rows[0].rollout_id, [row.fact.seq for row in rows])
        except TransportFailed as error:
            self._contact.failed(error, self._trouble)
            self._retry_after_seconds = error.retry_after_seconds
            self._was_answered = error.kind == OUT_OF_BOUNDS
            return False
        stopped = outcome.stopped_by
        if isinstance(stopped, EventEarly):
            self._trouble.failed("early", stopped.reason)
        elif isinstance(stopped, HostHeld):
            self._trouble.failed("held", stopped)
        else:
            self._trouble.succeeded()
        sent = self._sending.after_answer(rows, outcome)
        for input in sent.inputs:
            yield from self._post.insist(input)
        return sent.moved
