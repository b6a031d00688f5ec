"""How workers hand their findings to the engine, and retry while the journal cannot be written. Sans I/O.

A full disk does not end an agent. An input that must not be lost is posted until it is durable; one that will be
observed again is dropped. Either way the failure is logged once, and its end once.
"""

import logging
from collections.abc import Generator
from typing import TypeAlias

from nixfleet_agent.messages.inputs import Input, Reply
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.steps import PostInput, Wait
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_runtime.kernel.mutator import WriteFailed

Insisting: TypeAlias = Generator[PostInput | Wait, object, Reply]
TryingOnce: TypeAlias = Generator[PostInput, object, Reply | None]


class RetryingPost:
    """The way to the engine that all workers of one agent share."""

    def __init__(self, backoff: Backoff, log: logging.Logger) -> None:
        self._backoff = backoff
        self._failed_with: type[Input] | None = None
        self._trouble = Trouble(log, "writing the journal, on which everything else depends,")

    def insist(self, input: Input) -> Insisting:
        """Return the reply to `input`, posting it again until it is durable.

        Raises: EngineFault, MutatorClosed.
        """
        while True:
            reply = yield from self.try_once(input)
            if reply is not None:
                return reply
            yield from self._backoff.pause()

    def try_once(self, input: Input) -> TryingOnce:
        """Return the reply to `input`; `None` if it could not be made durable, and so changed nothing.

        Raises: EngineFault, MutatorClosed.
        """
        try:
            reply = yield from PostInput(input)
        except WriteFailed as error:
            self._trouble.failed("cannot be written", error)
            self._failed_with = type(input)
            return None
        # Many inputs write nothing, so their success proves nothing of the disk; one of the kind that failed does.
        if type(input) is self._failed_with:
            self._failed_with = None
            self._trouble.succeeded()
            self._backoff.reset()
        return reply
