"""Runs blocking work in a thread that nobody has to wait for.

anyio's own worker threads can be abandoned too, but the interpreter joins them before it exits: a read from a file
system that does not answer would keep the process from ending.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

T = TypeVar("T")


async def in_abandonable_thread(work: Callable[[], T]) -> T:
    """Return the result of `work`, which runs in a thread of its own.

    A cancellation returns at once and leaves the thread behind, also when the process ends. So `work` must be harmless
    at any later time: it may read, and must not write. Raises: what `work` raises.
    """
    call = _Call(work, anyio.lowlevel.current_token())
    threading.Thread(target=call.run, name="abandonable", daemon=True).start()
    await call.ended.wait()
    return call.result()


class _Call(Generic[T]):
    def __init__(self, work: Callable[[], T], loop: anyio.lowlevel.EventLoopToken) -> None:
        self.ended = anyio.Event()
        self._work = work
        self._loop = loop
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error
        # An abandoned call may outlive the loop.
        with suppress(anyio.RunFinishedError, RuntimeError):
            anyio.from_thread.run_sync(self.ended.set, token=self._loop)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]
