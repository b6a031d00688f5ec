"""Carries out switches and rollbacks, one at a time, in the order they were decided.

An intent may be given twice, and after a crash it is: the activator looks at what is running first. While one is
carried out nobody else may rely on what runs: `at_rest` is held.
"""

import logging
from collections import deque

import anyio

from nixfleet_agent.activation.activator import Activator, NoRunningClosure
from nixfleet_agent.messages.inputs import (
    Intent,
    IntentKind,
    RollbackEnded,
    SwitchEnded,
    SwitchStarted,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import Post
from nixfleet_agent.workers.trouble_log import Trouble

_log = logging.getLogger(__name__)


class IntentWorker:
    """A queue of intents and the task that works on them.

    at_rest: held from before an act begins until what came of it is durable. Whoever holds it knows that what
    runs now will still run when what they post is handled.
    """

    def __init__(self, activator: Activator, post: Post, backoff: Backoff) -> None:
        self._activator = activator
        self._post = post
        self._backoff = backoff
        self._trouble = Trouble(_log, "carrying out what was decided")
        self._waiting = deque[Intent]()
        self._woken = anyio.Event()
        self._idle = anyio.Event()
        self._idle.set()
        self.at_rest = anyio.Lock()

    def add(self, intent: Intent) -> None:
        """Carry out `intent` when those before it are over."""
        if not self._waiting:
            self._idle = anyio.Event()
        self._waiting.append(intent)
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            while self._waiting:
                # It leaves the queue when it is over, so that nothing that goes wrong on the way can lose it.
                async with self.at_rest:
                    await self._carry_out(self._waiting[0])
                self._waiting.popleft()
            self._idle.set()
            self._woken = anyio.Event()
            await self._woken.wait()

    async def until_idle(self) -> None:
        """Return when nothing is carried out and nothing waits for that."""
        await self._idle.wait()

    async def _carry_out(self, intent: Intent) -> None:
        while True:
            try:
                await self._act(intent)
            except (NoRunningClosure, OSError) as error:
                # The machine did not let itself be looked at. The host is between two closures: go on trying.
                self._trouble.goes_on(type(error).__name__, error)
                await self._backoff.wait()
            else:
                self._trouble.is_over()
                self._backoff.reset()
                return

    async def _act(self, intent: Intent) -> None:
        if intent.kind is IntentKind.ROLLBACK:
            undone = await self._activator.rollback(intent.closure)
            await self._post(RollbackEnded(intent.intent_id, undone))
            return
        if await self._activator.current() != intent.closure:
            await self._post(SwitchStarted(intent.intent_id, self._activator.switch_method))
        outcome = await self._activator.switch(intent.closure)
        await self._post(SwitchEnded(intent.intent_id, outcome))
