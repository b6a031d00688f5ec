"""Carries out a worker's steps without an event loop, for tests of what it decides."""

from collections.abc import Callable, Generator
from typing import TypeVar

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


def steps_of(
    work: Generator[StepT, object, object], answers: dict[type[StepT], object], count: int
) -> list[StepT]:
    """Return the first `count` steps of `work`. answers: by the type of step; `None` for the others.

    An exception among the answers is thrown into `work`.
    """
    steps: list[StepT] = []

    def answer(step: StepT) -> object:
        steps.append(step)
        if len(steps) == count:
            raise Stopped
        found = answers.get(type(step))
        if isinstance(found, Exception):
            raise found
        return found

    try:
        carried_out(work, answer)
    except Stopped:
        return steps
    raise AssertionError(f"expected {count} steps, found the end after {len(steps)}")
