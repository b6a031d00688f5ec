"""Workers that run in virtual time: generators of steps, each sent the answer to its last step. For the shells."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Generic, TypeVar

from nixfleet_agent.workers.steps import Wait, Wakeup
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime

StepT = TypeVar("StepT")


class Task(Generic[StepT]):
    """A worker that runs. lifetime: of its process, or of its group if it has one. carry_out: the shell's."""

    __slots__ = ("_carry_out", "lifetime", "work")

    def __init__(
        self,
        work: Generator[StepT, object, None],
        lifetime: NodeLifetime,
        carry_out: "Callable[[Task[StepT], StepT], None]",
    ) -> None:
        self.work = work
        self.lifetime = lifetime
        self._carry_out = carry_out

    def begin(self) -> None:
        """Run to the first step."""
        self._run_to_next_step(partial(next, self.work))

    def answer(self, answer: object) -> None:
        """Send the answer to the last step."""
        if not self.lifetime.is_over:
            self._run_to_next_step(partial(self.work.send, answer))

    def fail(self, error: Exception) -> None:
        """Throw the failure of the last step."""
        if not self.lifetime.is_over:
            self._run_to_next_step(partial(self.work.throw, error))

    def _run_to_next_step(self, resume: Callable[[], StepT]) -> None:
        try:
            step = resume()
        except StopIteration:
            return
        self._carry_out(self, step)


def begin_wait(agenda: Agenda, task: Task[Any], step: Wait) -> None:
    """Answer `task` when the wait of `step` is over."""
    waiting, wakeup = NodeLifetime(), step.wakeup
    if wakeup is not None and wakeup.is_set:
        agenda.after(0, task.lifetime, task.answer, None)
        return
    wake = partial(_wake, agenda, waiting, task)
    if wakeup is not None:
        wakeup.on_set(wake)
    if step.seconds is not None:
        until = int(step.seconds * SECOND)
        agenda.after(until, waiting, _end_wait, waiting, task, wakeup, wake)


def _wake(agenda: Agenda, waiting: NodeLifetime, task: Task[Any]) -> None:
    # At the same moment, but later: the code that sets the flag is not finished. Checked here, since a generator
    # that is collected after its process died may still release a lock.
    if not task.lifetime.is_over:
        agenda.after(0, waiting, _end_wait, waiting, task)


def _end_wait(
    waiting: NodeLifetime,
    task: Task[Any],
    wakeup: Wakeup | None = None,
    wake: Callable[[], None] | None = None,
) -> None:
    waiting.is_over = True
    if wakeup is not None and wake is not None:
        wakeup.forget(wake)
    task.answer(None)
