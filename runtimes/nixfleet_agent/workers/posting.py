"""Where workers hand in what they found: the mutator's door, with patience for a journal that cannot be written.

A full disk is not the end of an agent. What must not be lost is handed in until it is durable; what the world will
say again anyway is let go. Either way it is said once, and once when it is over.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from nixfleet_agent.messages.inputs import Input, Reply
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_runtime.kernel.mutator import WriteFailed

_log = logging.getLogger(__name__)

Post: TypeAlias = Callable[[Input], Awaitable[Reply]]
"""Returns the engine's reply once the input is durable."""
TryOnce: TypeAlias = Callable[[Input], Awaitable[Reply | None]]
"""As `Post`, but `None` when the input could not be made durable: for what will be observed again anyway."""


class RetryingPost:
    """What all workers of one agent post through."""

    def __init__(self, post: Post, backoff: Backoff) -> None:
        self._post = post
        self._backoff = backoff
        self._failed_with: type[Input] | None = None
        self._journal = Trouble(_log, "writing the journal, for which everything waits,")

    async def insist(self, input: Input) -> Reply:
        """Return the reply to `input`, however often it takes until that is durable.

        Raises: EngineFault, MutatorClosed.
        """
        while True:
            reply = await self.try_once(input)
            if reply is not None:
                return reply
            await self._backoff.wait()

    async def try_once(self, input: Input) -> Reply | None:
        """Return the reply to `input`, `None` if it could not be made durable: then nothing happened.

        Raises: EngineFault, MutatorClosed.
        """
        try:
            reply = await self._post(input)
        except WriteFailed as error:
            self._journal.goes_on("cannot be written", error)
            self._failed_with = type(input)
            return None
        # Many inputs write nothing, and prove nothing of a disk; one like the one that failed does.
        if type(input) is self._failed_with:
            self._failed_with = None
            self._journal.is_over()
            self._backoff.reset()
        return reply
