"""Carries out switches and rollbacks, one at a time, in the order they were decided.

An intent may be given twice, and after a crash it is: the activator looks at what is running first.
"""

import anyio

from nixfleet_agent.activator import Activator
from nixfleet_agent.inputs import Intent, IntentKind, RollbackEnded, SwitchEnded, SwitchStarted
from nixfleet_agent.workers.post import Post

WAITING_MAX = 64
"""Intents that may wait. A host has one rollout under way at a time, so more than two is a bug."""


class IntentWorker:
    """A queue of intents and the task that works on them."""

    def __init__(self, activator: Activator, post: Post) -> None:
        self._activator = activator
        self._post = post
        self._sender, self._receiver = anyio.create_memory_object_stream[Intent](WAITING_MAX)
        self.is_busy = False

    def add(self, intent: Intent) -> None:
        """Carry out `intent` when those before it are over."""
        self._sender.send_nowait(intent)

    async def run(self) -> None:
        """Work until cancelled."""
        async for intent in self._receiver:
            self.is_busy = True
            await self._carry_out(intent)
            self.is_busy = False

    async def _carry_out(self, intent: Intent) -> None:
        if intent.kind is IntentKind.ROLLBACK:
            undone = await self._activator.rollback(intent.closure)
            await self._post(RollbackEnded(intent.intent_id, undone))
            return
        if await self._activator.current() != intent.closure:
            await self._post(SwitchStarted(intent.intent_id, self._activator.switch_method))
        outcome = await self._activator.switch(intent.closure)
        await self._post(SwitchEnded(intent.intent_id, outcome))
