"""The sender: what `workers.sender` does, in virtual time. What it makes of rows and answers is `sending`'s."""

from collections import deque
from functools import partial

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.journal.outbox import Sending, envelopes_of, rows_by_rollout
from nixfleet_agent.messages.inputs import Input
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_proto.wire import BATCH_LENGTH_MAX
from nixfleet_runtime.transport import EventsOutcome, TransportFailed
from nixfleet_simulation.nodes.host.shell import ANSWER_AFTER_MAX, WorkerShell
from nixfleet_simulation.nodes.network import Answer, SendEvents
from nixfleet_simulation.scenario.acts import Boundary


class Sender:
    """Empties the journal, one rollout after the other."""

    def __init__(self, shell: WorkerShell) -> None:
        self._shell = shell
        self._backoff = Backoff(shell.clock, shell.chance.random)
        self._sending = Sending()
        self._is_busy = True
        self._moved = False
        self._retry_after_seconds: float | None = None
        self._left: deque[tuple[JournalRow, ...]] = deque()

    def start(self) -> None:
        """Begin."""
        self._look()

    def wake(self) -> None:
        """Look into the journal again."""
        if not self._is_busy:
            self._is_busy = True
            self._shell.after(0, self._look)

    def _look(self) -> None:
        self._retry_after_seconds = None
        self._moved = False
        rows = self._shell.journal.unsent(BATCH_LENGTH_MAX, self._sending.look())
        if rows or self._sending.has_left_out:
            self._left.extend(rows_by_rollout(rows))
            self._send_next()
        else:
            self._is_busy = False

    def _send_next(self) -> None:
        if not self._left:
            self._all_sent()
            return
        rows = self._left.popleft()
        crossings = self._shell.crossings
        if crossings.cross(Boundary.BEFORE_SEND):
            return
        self._shell.call(
            SendEvents(envelopes_of(self._shell.hostname, rows)),
            ANSWER_AFTER_MAX,
            partial(self._answered, rows),
            self._failed,
        )
        crossings.cross(Boundary.AFTER_SEND)

    def _all_sent(self) -> None:
        if self._moved:
            self._backoff.reset()
            self._shell.after(0, self._look)
        elif not self._sending.must_wait():
            self._shell.after(0, self._look)
        else:
            self._shell.after(self._backoff.next_seconds(self._retry_after_seconds), self._look)

    def _failed(self, error: TransportFailed) -> None:
        self._retry_after_seconds = error.retry_after_seconds
        self._send_next()

    def _answered(self, rows: tuple[JournalRow, ...], answer: Answer) -> None:
        assert isinstance(answer, EventsOutcome), answer
        sent = self._sending.after_answer(rows, answer)
        self._moved |= sent.moved
        self._tell(deque(sent.inputs))

    def _tell(self, inputs: deque[Input]) -> None:
        if inputs:
            self._shell.insist(inputs.popleft(), lambda _: self._tell(inputs))
        else:
            self._send_next()
