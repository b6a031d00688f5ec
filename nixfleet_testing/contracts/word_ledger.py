"""What a kernel is tried with: an engine that keeps a list of words, and a disk that can be held up or be full.

The tests of a kernel ask these two what they saw; none of them looks into the kernel.
"""

from collections.abc import Sequence
from datetime import datetime

from nixfleet_runtime.kernel.engine import Commit
from nixfleet_testing.contracts.held_up import HoldsUp


class Ledger:
    """An engine that notes every word it is given, and asks for it to be written.

    `ask…` changes nothing durable, `poison…` makes it fail. It replies with the word and how many there are by now, and
    orders `after {word}`.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.told_at: list[datetime] = []
        self._settled_length = 0

    @property
    def settled(self) -> list[str]:
        """The words that the kernel said are durable."""
        return self.words[: self._settled_length]

    def handle(self, input: str, now: datetime) -> Commit[str, str, str]:
        """Note `input`."""
        if input.startswith("poison"):
            raise RuntimeError(f"cannot digest {input}")
        self.words.append(input)
        self.told_at.append(now)
        writes = () if input.startswith("ask") else (input,)
        return Commit(writes, f"{input} is number {len(self.words)}", (f"after {input}",))

    def settle(self) -> None:
        """What is noted stays."""
        self._settled_length = len(self.words)

    def roll_back(self) -> None:
        """What was noted since the last `settle` goes."""
        del self.words[self._settled_length :]


class Disk(HoldsUp):
    """Keeps what is written, one transaction at a time. A transaction with a word of `refused` fails as a whole.

    While it is held up, writes begin and do not end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.refused: set[str] = set()

    def write(self, words: Sequence[str]) -> None:
        """Make `words` durable, once it is let go. Raises: OSError."""
        self._pass()
        if refused := self.refused.intersection(words):
            raise OSError(f"no room for {', '.join(sorted(refused))}")
        self.written += words
