"""A base class for disks and stores of tests whose writes can be blocked: a write begins then, and does not end."""

import threading
from typing import Final

import anyio.to_thread

HELD_UP_MAX_SECONDS: Final = 10.0


class HoldsUp:
    """Subclasses call `_passed` before they write, or `_pass` in a thread; tests call `hold_up` and `let_go`."""

    def __init__(self) -> None:
        self._may_end = threading.Event()
        self._may_end.set()
        self._begun = threading.Event()

    def hold_up(self) -> None:
        """Block: the next write begins and does not end."""
        self._may_end.clear()
        self._begun.clear()

    def let_go(self) -> None:
        """Unblock: writes end, this one and all later ones."""
        self._may_end.set()

    async def begun(self) -> bool:
        """Return whether a write began since `hold_up`, as soon as one has."""
        return await anyio.to_thread.run_sync(self._begun.wait, HELD_UP_MAX_SECONDS)

    async def _passed(self) -> None:
        # A cancellation ends the wait, as it must end that of any write.
        await anyio.to_thread.run_sync(self._pass, abandon_on_cancel=True)

    def _pass(self) -> None:
        self._begun.set()
        assert self._may_end.wait(HELD_UP_MAX_SECONDS), (
            "expected a call of `let_go`, found none in time"
        )
