"""What writes and can be held up: a write begins then, and does not end. For disks and stores of tests."""

import threading
from typing import Final

import anyio.to_thread

HELD_UP_MAX_SECONDS: Final = 10.0


class HoldsUp:
    """Whoever writes calls `_pass` first, in the thread that writes; whoever tests holds it up and lets it go."""

    def __init__(self) -> None:
        self._may_end = threading.Event()
        self._may_end.set()
        self._begun = threading.Event()

    def hold_up(self) -> None:
        """Let the next write begin and not end."""
        self._may_end.clear()
        self._begun.clear()

    def let_go(self) -> None:
        """Let writes end, this one and all that follow."""
        self._may_end.set()

    async def begun(self) -> bool:
        """Return whether a write began since `hold_up`, as soon as one has."""
        return await anyio.to_thread.run_sync(self._begun.wait, HELD_UP_MAX_SECONDS)

    def _pass(self) -> None:
        self._begun.set()
        assert self._may_end.wait(HELD_UP_MAX_SECONDS), "nobody let go"
