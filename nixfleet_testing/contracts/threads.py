"""Runs work in a thread of its own, as a kernel does its writes, and returns its error."""

import threading
from collections.abc import Callable


def error_in_thread(work: Callable[[], object]) -> Exception | None:
    """Run `work` in a thread of its own, and return what it raised."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return errors[0] if errors else None
