"""Carries out a worker's steps without an event loop, for tests of what it decides."""

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import TypeVar

from nixfleet_agent.messages.inputs import Input
from nixfleet_agent.workers.steps import AgentStep, PostInput, Wait

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")


class Stopped(Exception):
    """Raised by an answer to end a worker that would go on for ever."""


def carried_out(
    work: Generator[StepT, object, ResultT], answer: Callable[[StepT], object]
) -> ResultT:
    """Return what `work` returns; what `answer` raises is thrown into it. Raises: what `work` raises."""
    try:
        step = next(work)
        while True:
            try:
                answered = answer(step)
            except Stopped:
                raise
            except Exception as error:
                step = work.throw(error)
            else:
                step = work.send(answered)
    except StopIteration as end:
        result: ResultT = end.value
        return result
    finally:
        work.close()


class Script:
    """Answers steps by their type, and notes them. An exception among the answers is thrown into the worker.

    answers: one answer for all steps of a type, or a list with one for each; `None` for types that are not named.
    """

    def __init__(self, answers: Mapping[type, object], stop_at: int = 100) -> None:
        self.steps: list[AgentStep] = []
        self._answers = dict(answers)
        self._stop_at = stop_at

    def answer(self, step: AgentStep) -> object:
        """Return the answer to `step`. Raises: Stopped, at the step of number `stop_at`."""
        self.steps.append(step)
        if len(self.steps) == self._stop_at:
            raise Stopped
        found = self._answers.get(type(step))
        if isinstance(found, list):
            if not found:
                raise Stopped
            found = found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def run(self, work: Generator[AgentStep, object, object]) -> list[AgentStep]:
        """Run `work` until it ends or the script does; return its steps, the last one unanswered."""
        with suppress(Stopped):
            carried_out(work, self.answer)
        return self.steps

    @property
    def posted(self) -> list[Input]:
        """What was posted."""
        return [step.input for step in self.steps if isinstance(step, PostInput)]

    @property
    def waited(self) -> list[float | None]:
        """How long each wait was to last."""
        return [step.seconds for step in self.steps if isinstance(step, Wait)]
