"""The fakes that a kernel is tested with: an engine that keeps a list of words, and a disk that can block or be full.

The tests of a kernel read these two; none of them looks into the kernel.
"""

from collections.abc import Sequence
from datetime import datetime

from nixfleet_runtime.kernel.engine import Commit
from nixfleet_testing.contracts.held_up import HoldsUp


class Ledger:
    """An engine that keeps every word it gets, and returns it as a write.

    `ask…` has no write, `poison…` raises. It replies with the word and the number of words so far, and
    returns the action `after {word}`.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.handled_at: list[datetime] = []
        self._settled_length = 0

    @property
    def settled(self) -> list[str]:
        """The words before the last `settle`."""
        return self.words[: self._settled_length]

    def handle(self, input: str, now: datetime) -> Commit[str, str, str]:
        """Keep `input`. Raises: RuntimeError, for `poison…`."""
        if input.startswith("poison"):
            raise RuntimeError(f"cannot digest {input}")
        self.words.append(input)
        self.handled_at.append(now)
        writes = () if input.startswith("ask") else (input,)
        return Commit(writes, f"{input} is number {len(self.words)}", (f"after {input}",))

    def settle(self) -> None:
        """Confirm the words so far."""
        self._settled_length = len(self.words)

    def roll_back(self) -> None:
        """Remove the words since the last `settle`."""
        del self.words[self._settled_length :]


class Disk(HoldsUp):
    """Keeps what is written, one transaction at a time. A transaction with a word of `refused` fails as a whole.

    While it is blocked, writes begin and do not end. fails: what every write raises, if anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.refused: set[str] = set()
        self.fails: Exception | None = None
        self.tried = 0

    async def write(self, words: Sequence[str]) -> None:
        """Make `words` durable, once it is not blocked. Raises: OSError, and `fails`."""
        self.tried += 1
        await self._passed()
        if self.fails is not None:
            raise self.fails
        if refused := self.refused.intersection(words):
            raise OSError(f"no room for {', '.join(sorted(refused))}")
        self.written += words
