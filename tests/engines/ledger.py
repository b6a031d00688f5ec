"""For tests of the mutator: an engine that keeps a list of words, and a disk that can be held up or be full."""

from collections.abc import Sequence
from datetime import datetime

from nixfleet_runtime.kernel.engine import Commit
from nixfleet_testing.contracts.held_up import HoldsUp


class Ledger:
    """Notes every input and asks for it to be written; `ask…` only asks, `poison…` makes it fail.

    It replies with the input and its number.
    """

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.told_at: list[datetime] = []
        self._settled_length = 0

    def handle(self, input: str, now: datetime) -> Commit[str, str, str]:
        """Note `input`."""
        if input.startswith("poison"):
            raise RuntimeError(f"cannot digest {input}")
        self.entries.append(input)
        self.told_at.append(now)
        writes = () if input.startswith("ask") else (input,)
        return Commit(writes, f"{input} is {len(self.entries)}", (f"after {input}",))

    def settle(self) -> None:
        """What is noted stays."""
        self._settled_length = len(self.entries)

    def roll_back(self) -> None:
        """What was noted since the last `settle` goes."""
        del self.entries[self._settled_length :]


class SpoiltLedger(Ledger):
    """A ledger with a bug: it cannot take anything back."""

    def roll_back(self) -> None:
        """Fail."""
        raise RuntimeError("nothing can be taken back")


class ForgetfulLedger(Ledger):
    """A ledger with a bug: it can settle only once."""

    def settle(self) -> None:
        """Fail, but for the first time."""
        if self._settled_length:
            raise RuntimeError("cannot settle again")
        super().settle()


class Disk:
    """Keeps each transaction. Whatever contains a word of `has_no_room_for` is refused as a whole."""

    def __init__(self, *, has_no_room_for: Sequence[str] = ()) -> None:
        self.transactions: list[tuple[str, ...]] = []
        self.has_no_room_for = set(has_no_room_for)

    async def write(self, words: Sequence[str]) -> None:
        """Make `words` durable. Raises: OSError."""
        refused = self.has_no_room_for.intersection(words)
        if refused:
            raise OSError(f"no room for {', '.join(sorted(refused))}")
        self.transactions.append(tuple(words))


class StumblingDisk(Disk):
    """A disk that fails once, at the first write."""

    has_stumbled = False

    async def write(self, words: Sequence[str]) -> None:
        """Make `words` durable, but for the first time. Raises: OSError."""
        if not self.has_stumbled:
            self.has_stumbled = True
            raise OSError("not this time")
        await super().write(words)


class HeldUpDisk(Disk, HoldsUp):
    """A disk whose writes begin and then wait for `let_go`."""

    def __init__(self, *, has_no_room_for: Sequence[str] = ()) -> None:
        Disk.__init__(self, has_no_room_for=has_no_room_for)
        HoldsUp.__init__(self)
        self.hold_up()

    async def write(self, words: Sequence[str]) -> None:
        """Make `words` durable, once it is let go."""
        await self._passed()
        await super().write(words)
