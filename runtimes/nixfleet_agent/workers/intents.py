"""Carries out switches and rollbacks, one at a time, in the order they were decided. Sans I/O.

An intent may be carried out twice, and after a crash it is: the activator checks what is running first. While one
is carried out, no other worker may rely on what runs: `at_rest` is held. The engine counts each beginning, and ends
an intent that was begun too often.
"""

import logging
from collections import deque
from collections.abc import Generator
from typing import assert_never

from nixfleet_agent.activation.activator import NoRunningClosure
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    Intent,
    IntentBegun,
    IntentKind,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import (
    Lock,
    ReadRunningClosure,
    RollBack,
    Switch,
    Wait,
    Wakeup,
    Work,
)
from nixfleet_agent.workers.trouble_log import Trouble


class IntentWorker:
    """A queue of intents and the worker that empties it.

    at_rest: held from before a switch or rollback begins until its outcome is durable. A worker that holds it knows
    that the closure it sees running will still run when its input is handled.
    """

    def __init__(
        self, switch_method: str, post: RetryingPost, backoff: Backoff, log: logging.Logger
    ) -> None:
        self._switch_method = switch_method
        self._post = post
        self._backoff = backoff
        self._trouble = Trouble(log, "carrying out a switch or rollback")
        self._queue = deque[Intent]()
        self._added = Wakeup()
        self._idle = Wakeup(is_set=True)
        self.at_rest = Lock()

    def add(self, intent: Intent) -> None:
        """Carry out `intent` after those before it."""
        self._queue.append(intent)
        self._idle.clear()
        self._added.set()

    def run(self) -> Work:
        """Carry out what is in the queue, and wait for more."""
        while True:
            self._added.clear()
            while self._queue:
                yield from self.at_rest.acquire()
                try:
                    yield from self._carry_out(self._queue[0])
                finally:
                    self.at_rest.release()
                # Only now, so that no failure on the way can lose it.
                self._queue.popleft()
            self._idle.set()
            yield from Wait(None, self._added)

    def until_idle(self) -> Generator[Wait, object, None]:
        """Return when the queue is empty and nothing is being carried out."""
        yield from Wait(None, self._idle)

    def _carry_out(self, intent: Intent) -> Work:
        while True:
            try:
                yield from self._act(intent)
            except (NoRunningClosure, OSError) as error:
                # The running closure cannot be read. The host is between two closures: keep trying.
                self._trouble.failed(type(error).__name__, error)
                yield from self._backoff.pause()
            else:
                self._trouble.succeeded()
                self._backoff.reset()
                return

    def _act(self, intent: Intent) -> Work:
        begun = yield from self._post.insist(IntentBegun(intent.intent_id))
        if isinstance(begun, AttemptsUsedUp):
            return
        kind = intent.kind
        match kind:
            case IntentKind.ROLLBACK:
                undone = yield from RollBack(intent)
                yield from self._post.insist(RollbackEnded(intent.intent_id, undone))
            case IntentKind.SWITCH:
                if (yield from ReadRunningClosure()) != intent.closure:
                    started = SwitchStarted(intent.intent_id, self._switch_method)
                    yield from self._post.insist(started)
                outcome = yield from Switch(intent)
                yield from self._post.insist(SwitchEnded(intent.intent_id, outcome))
            case _:
                assert_never(kind)
