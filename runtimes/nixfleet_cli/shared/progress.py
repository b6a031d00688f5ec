"""How far a command that lasts is: a bar, a rate and the time left, on standard error.

Only at a terminal: a pipe, a file and --json get nothing. The bar goes away when the work ends, or fails.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nixfleet_cli.shared.output import Output
from nixfleet_runtime.kernel.visible import visible

if TYPE_CHECKING:  # Drawing needs rich, which most commands never load.
    from rich.progress import Progress, TaskID


class Bar:
    """A bar that may not be shown. progress: `None`, if it is not."""

    def __init__(self, progress: "Progress | None", task: "TaskID | None") -> None:
        self._progress = progress
        self._task = task

    def noted(self, count: int) -> None:
        """Move on by `count` items. May be called from any thread."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Let other lines be printed meanwhile."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextmanager
def progress(output: Output, what: str, unit: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar while the context is open, if standard error is a terminal.

    what: what is being done, such as `verifying the chain`. unit: what is counted, such as `rows`. total: how many
    there are; `None`: it is not known.
    """
    if output.as_json or not sys.stderr.isatty():
        yield Bar(None, None)
        return
    from rich.console import Console

    from nixfleet_cli.shared.bars import bar_on

    with bar_on(Console(stderr=True), unit) as shown:
        yield Bar(shown, shown.add_task(visible(what), total=total))
