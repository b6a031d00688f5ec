"""Runs blocking work in threads that do not keep the process from ending. Under asyncio and trio.

anyio's own worker threads can be abandoned too, but the interpreter joins them before it exits: a disk or a file system
that does not answer would keep the process from ending.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

T = TypeVar("T")

CLOSE_SECONDS_MAX: Final = 5.0


async def in_abandonable_thread(work: Callable[[], T]) -> T:
    """Return the result of `work`, which runs in a thread of its own.

    A cancellation returns at once and leaves the thread behind, also when the process ends. So `work` must be harmless
    at any later time: it may read, and must not write. Raises: what `work` raises.
    """
    call = _Call(work, anyio.lowlevel.current_token())
    threading.Thread(target=call.run, name="abandonable", daemon=True).start()
    await call.ended.wait()
    return call.result()


class WriterThread:
    """Runs the blocking calls of one writer in one thread, in order: a transaction costs one change of threads."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`. Raises: what `work` raises.

        A cancellation returns at once. `work` is then still carried out, and its result is lost.
        """
        call = _Call(work, anyio.lowlevel.current_token())
        self._calls.put(call.run)
        await call.ended.wait()
        return call.result()

    def end(self, last: Callable[[], None]) -> None:
        """Run `last` after all other calls, end the thread, and wait for that up to `CLOSE_SECONDS_MAX`.

        After a call that hangs, `last` is never run. A second call has no effect.
        """
        if self._thread.is_alive():
            self._calls.put(last)
            self._calls.put(None)
            self._thread.join(CLOSE_SECONDS_MAX)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


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
