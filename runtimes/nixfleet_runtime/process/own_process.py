"""Runs long computations in a process of their own, so that neither this interpreter nor its memory is held up."""

import os
import threading
from collections.abc import Callable
from multiprocessing import connection, get_context, parent_process
from typing import Any, Final, ParamSpec, TypeVar

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.process.threads import in_abandonable_thread

P = ParamSpec("P")
T = TypeVar("T")

_NICENESS: Final = 10


class WorkFailed(NixfleetError):
    """What ran in a process of its own raised an error, or the process ended. problem: in words."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


async def in_own_process(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Return the result of `work`, a function of a module, in a new process of low priority. Under asyncio and trio.

    Arguments and result are pickled. A cancellation kills the process, and so does the end of this one.
    Raises: WorkFailed.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, work, arguments, named), daemon=True)
    process.start()
    sender.close()
    try:
        result, problem = await in_abandonable_thread(receiver.recv)
    except EOFError:
        raise WorkFailed(
            "expected a result, found that the process which computes it ended"
        ) from None
    finally:
        process.kill()
    if problem is not None:
        raise WorkFailed(problem)
    return result  # type: ignore[no-any-return]


def _report(
    sender: "connection.Connection[Any, Any]",
    work: Callable[..., object],
    arguments: tuple[object, ...],
    named: dict[str, object],
) -> None:
    os.nice(_NICENESS)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        answer: tuple[object, str | None] = work(*arguments, **named), None
    except Exception as error:
        answer = None, str(error) or repr(error)
    sender.send(answer)


def _end_with_the_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
