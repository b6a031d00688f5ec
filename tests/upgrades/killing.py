"""Kills a process at a statement of SQLite: a child of the test, which shares nothing with it but the files."""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run `action` in a process that is killed right before its statement `number`; return whether it came to that.

    Statements of all connections count, from 1. Raises: AssertionError, if it failed in another way.
    """
    child = os.fork()
    if child == 0:
        _run_until(number, action)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, f"the process ended with {status} instead of at statement {number}"
    return False


def _run_until(number: int, action: Callable[[], object]) -> None:
    left, opened = number, sqlite3.connect

    def count(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = opened(*arguments, **options)
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = connect  # type: ignore[assignment]  # this process ends below
    try:
        action()
    except BaseException as error:
        sys.stderr.write(f"in the child: {error!r}\n")
        os._exit(1)
    os._exit(0)
