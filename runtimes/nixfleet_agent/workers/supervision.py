"""Keeps a worker at work: one that fails is named and begins again, and the others never hear of it."""

import logging
from collections.abc import Awaitable, Callable

from nixfleet_agent.workers.backoff import Backoff
from nixfleet_runtime.kernel.mutator import MutatorClosed

_log = logging.getLogger(__name__)


async def supervised(name: str, work: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
    """Run `work` until it returns or this is cancelled; when it fails, say so, wait, and begin again.

    When the mutator is closed there is nothing left to work for.
    """
    while True:
        try:
            await work()
        except MutatorClosed:
            return
        except Exception:
            _log.exception("%s failed and begins again", name)
            await backoff.wait()
        else:
            return
