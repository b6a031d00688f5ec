"""Brings a kernel into the states in which it is tested: idle, in the middle of a write, closed, cancelled.

What must hold in each of them is in `mutator`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_testing.contracts.event_loop import let_others_run
from nixfleet_testing.contracts.word_ledger import Disk, Ledger

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
REFUSED_ACTION = "after boom"


class Mutator(Protocol):
    """A kernel for inputs, writes, replies and actions that are words."""

    async def post(self, input: str) -> str:
        """Return the engine's reply, once the commit for the input is durable. Waits while the queue is full."""
        ...

    async def post_if_room(self, input: str) -> str:
        """As `post`, but raise QueueFull instead of waiting for room."""
        ...

    async def post_urgent(self, input: str) -> str:
        """As `post`, but ahead of all queued inputs."""
        ...

    def close(self) -> None:
        """Refuse new inputs; `run` returns when the accepted ones have been answered."""
        ...

    async def run(self) -> None:
        """Handle inputs until `close`."""
        ...


class MutatorBench:
    """A kernel, its engine and its disk, and the replies and actions of everything that was posted.

    patience_seconds: after this long tasks are cancelled, and the test reports what is missing.
    """

    def __init__(self, patience_seconds: float) -> None:
        self.ledger = Ledger()
        self.disk = Disk()
        self.clock = FakeClock(START)
        self.done: list[str] = []
        self.answers: dict[str, str | Exception] = {}
        self.mutator: Mutator
        self._patience_seconds = patience_seconds

    def carry_out(self, action: str) -> None:
        """Record `action`. Raises RuntimeError on `REFUSED_ACTION`: an action with a bug."""
        self.done.append(action)
        if action == REFUSED_ACTION:
            raise RuntimeError(f"cannot do {action}")

    async def ask(self, post: Callable[[str], Awaitable[str]], word: str) -> None:
        """Post `word`, and record the reply or the error."""
        try:
            self.answers[word] = await post(word)
        except Exception as error:
            self.answers[word] = error

    async def line_up(self, tasks: TaskGroup, *words: str) -> None:
        """Post each word from a task of its own, in this order, until all of them wait."""
        for word in words:
            tasks.start_soon(self.ask, self.mutator.post, word)
            await let_others_run()

    def require(self, what: str, expected: object, found: object) -> None:
        """Fail, with what the kernel did wrong."""
        assert found == expected, f"{what}: expected {expected}, found {found}"

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[TaskGroup]:
        """Run the kernel; at the end close it, when every input has been answered."""
        async with self._ending() as tasks:
            tasks.start_soon(self.mutator.run)
            yield tasks
            self.mutator.close()

    @asynccontextmanager
    async def posted(self, *words: str) -> AsyncGenerator[TaskGroup]:
        """Queue `words`, and run the kernel only at the end, until it has handled them."""
        async with self._ending() as tasks:
            await self.line_up(tasks, *words)
            yield tasks
            self.mutator.close()
            tasks.start_soon(self.mutator.run)

    @asynccontextmanager
    async def writing(self, word: str) -> AsyncGenerator[TaskGroup]:
        """Keep the kernel in the middle of writing `word`, until the disk is unblocked."""
        async with self.running() as tasks:
            self.disk.hold_up()
            await self._begin_writing(tasks, word)
            yield tasks
            self.disk.let_go()

    async def be_cancelled_while_writing(self, first: str, *waiting: str) -> None:
        """Cancel the kernel in the middle of writing `first`, while `waiting` wait, and return when it has ended."""
        running = anyio.CancelScope()

        async def run() -> None:
            with running:
                await self.mutator.run()

        async with self._ending() as tasks:
            self.disk.hold_up()
            tasks.start_soon(run)
            await self._begin_writing(tasks, first)
            await self.line_up(tasks, *waiting)
            running.cancel()
            await let_others_run()
            self.disk.let_go()

    async def run_to_its_end(self, *words: str) -> Exception | None:
        """Queue `words`, and run the kernel, which must end by itself. Return what it ended with."""
        ended: list[Exception] = []
        async with self._ending() as tasks:
            await self.line_up(tasks, *words)
            try:
                await self.mutator.run()
            except Exception as error:
                ended.append(error)
        return ended[0] if ended else None

    async def _begin_writing(self, tasks: TaskGroup, word: str) -> None:
        await self.line_up(tasks, word)
        assert await self.disk.begun(), f"{word!r} was posted and nothing is being written"

    @asynccontextmanager
    async def _ending(self) -> AsyncGenerator[TaskGroup]:
        """Tasks that end when the body has."""
        with anyio.move_on_after(self._patience_seconds):
            async with anyio.create_task_group() as tasks:
                try:
                    yield tasks
                finally:
                    self.disk.let_go()
