"""Carries out switches and rollbacks, one at a time, in the order they were decided. Sans I/O.

An intent may be carried out twice, and after a crash it is: the activator checks what is running first. While one
is carried out, no other worker may rely on what runs: `at_rest` is held. The engine counts each beginning, and ends
an intent that was begun too often.

A switch begins only when its closure is here. Until then it waits: nothing has changed, no attempt is counted, the
machine is at rest, and the engine may withdraw the intent.
Source: docs/spec/runtimes.md, Intents.
"""

import logging
from collections import deque
from collections.abc import Generator
from typing import TypeAlias, assert_never

from nixfleet_agent.activation.activator import (
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    SwitchFailed,
)
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    ClosureAwaited,
    DispatchPostponed,
    DispatchRefused,
    DispatchTaken,
    Done,
    Intent,
    IntentBegun,
    IntentKind,
    IntentWithdrawn,
    LockDue,
    MayBegin,
    RequestRefused,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
    WarrantObeyed,
    WarrantRefused,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.contact import Contact
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import (
    AgentStep,
    Lock,
    Prepare,
    ReadRunningClosure,
    RollBack,
    Switch,
    Wait,
    Wakeup,
    Work,
)
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX
from nixfleet_runtime.kernel.redacted import redacted

COPYING_SECONDS = 10.0
"""The shortest time after which a closure with another content is looked at again. With the same content as before it
is not being copied: it is bad."""

_Answer: TypeAlias = Generator[AgentStep, object, bool]


class IntentWorker:
    """A queue of intents and the worker that empties it.

    at_rest: held from before a switch or rollback begins until its outcome is durable. A worker that holds it knows
    that the closure it sees running will still run when its input is handled.
    between_looks: the waits for a closure that is not here.
    """

    def __init__(
        self,
        switch_method: str,
        post: RetryingPost,
        backoff: Backoff,
        between_looks: Backoff,
        log: logging.Logger,
        refusals: Refusals,
        contact: Contact,
    ) -> None:
        self._contact = contact
        self._switch_method = switch_method
        self._post = post
        self._backoff = backoff
        self._between_looks = between_looks
        self._refusals = refusals
        self._trouble = Trouble(log, "carrying out a switch or rollback")
        self._missing = Trouble(log, "fetching the closure of a switch")
        self._queue = deque[Intent]()
        self._added = Wakeup()
        self._withdrawn = Wakeup()
        self._idle = Wakeup(is_set=True)
        self.at_rest = Lock()

    def add(self, intent: Intent) -> None:
        """Carry out `intent` after those before it."""
        self._queue.append(intent)
        self._idle.clear()
        self._added.set()

    def withdraw(self, intent: Intent) -> None:
        """Do not carry out `intent`, whose closure is not here or was not looked for yet."""
        if self._queue and self._queue[0].intent_id == intent.intent_id:
            self._withdrawn.set()
        # One further behind is answered with `IntentWithdrawn` when its turn comes.

    def run(self) -> Work:
        """Carry out what is in the queue, and wait for more."""
        while True:
            self._added.clear()
            while self._queue:
                yield from self._carry_out(self._queue[0])
                # Only now, so that no failure on the way can lose it.
                self._queue.popleft()
                self._withdrawn.clear()
            self._idle.set()
            yield from Wait(None, self._added)

    def until_idle(self) -> Generator[Wait, object, None]:
        """Return when nothing is being carried out: the queue is empty, or a switch waits for its closure."""
        yield from Wait(None, self._idle)

    def _carry_out(self, intent: Intent) -> Work:
        while True:
            try:
                is_over = yield from self._act(intent)
            except (NoRunningClosure, OSError) as error:
                # The running closure cannot be read. The host is between two closures: keep trying.
                self._trouble.failed(type(error).__name__, error)
            else:
                self._trouble.succeeded()
                if is_over:
                    self._backoff.reset()
                    return
            yield from self._backoff.pause()

    def _act(self, intent: Intent) -> _Answer:
        """Return whether `intent` is over. It is not when its closure went away again before the switch began."""
        kind = intent.kind
        match kind:
            case IntentKind.ROLLBACK:
                return (yield from self._undisturbed(self._roll_back(intent)))
            case IntentKind.SWITCH:
                is_wanted = yield from self._until_here(intent)
                self._missing.succeeded()
                self._between_looks.reset()
                self._refusals.no_closure_awaited()
                return not is_wanted or (yield from self._undisturbed(self._switch(intent)))
            case _:
                assert_never(kind)

    def _undisturbed(self, act: _Answer) -> _Answer:
        self._idle.clear()
        yield from self.at_rest.acquire()
        try:
            return (yield from act)
        finally:
            self.at_rest.release()

    # Until the closure is here.

    def _until_here(self, intent: Intent) -> _Answer:
        """Return True when the switch can begin, False when it is not wanted any more."""
        before: ClosureMismatch | None = None
        while True:
            if (yield from ReadRunningClosure()) == intent.closure:
                return True
            # Nothing is lost if the agent stops now.
            self._idle.set()
            outcome = yield from Prepare(intent, self._withdrawn)
            match outcome:
                case None:
                    return False
                case ClosureNotHere():
                    yield from self._wait(intent, outcome.reason)
                case ClosureMismatch() if outcome != before:
                    # A copy that is under way has another hash at each look; a spoilt closure always has the same.
                    before = outcome
                    reason = f"{outcome}: it is being copied, or was changed"
                    yield from self._wait(intent, reason, COPYING_SECONDS)
                case Prepared() | SwitchFailed() | ClosureMismatch():
                    return True  # The switch itself reports what keeps it from beginning.
                case _:
                    assert_never(outcome)

    def _wait(self, intent: Intent, why: str, at_least_seconds: float | None = None) -> Work:
        reason = redacted(f"waits for closure {intent.closure}: {why}")[:FAILURE_REASON_LENGTH_MAX]
        self._refusals.closure_awaited(intent.rollout_id, reason)
        self._missing.failed(intent.closure, reason)
        yield from self._post.try_once(ClosureAwaited(intent.intent_id, reason))
        seconds = self._between_looks.next_seconds(at_least_seconds)
        yield from Wait(seconds, self._withdrawn)

    # The machine.

    def _roll_back(self, intent: Intent) -> _Answer:
        if (yield from self._begun(intent)) is not None:
            undone = yield from RollBack(intent)
            yield from self._post.insist(RollbackEnded(intent.intent_id, undone))
        return True

    def _switch(self, intent: Intent) -> _Answer:
        begun = yield from self._begun(intent)
        if begun is None:
            return True
        if (yield from ReadRunningClosure()) != intent.closure:
            started = SwitchStarted(
                intent.intent_id, self._switch_method, self._contact.answered_at
            )
            yield from self._post.insist(started)
        outcome = yield from Switch(intent, begun.time_limit_seconds)
        if isinstance(outcome, ClosureNotHere):
            return False
        yield from self._post.insist(SwitchEnded(intent.intent_id, outcome))
        return True

    def _begun(self, intent: Intent) -> Generator[AgentStep, object, MayBegin | None]:
        """Return under which limit `intent` begins, `None` when it must not."""
        reply = yield from self._post.insist(IntentBegun(intent.intent_id))
        match reply:
            case MayBegin():
                return reply
            case AttemptsUsedUp() | IntentWithdrawn():
                return None
            case (
                Done()
                | DispatchTaken()
                | DispatchPostponed()
                | DispatchRefused()
                | LockDue()
                | RequestRefused()
                | WarrantObeyed()
                | WarrantRefused()
            ):
                raise AssertionError(reply)
            case _:
                assert_never(reply)
