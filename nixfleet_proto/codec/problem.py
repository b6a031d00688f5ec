"""How bad bytes are reported: each problem with the path to it, as many as a reader can use.

Who sent the bytes may be hostile, so that neither the number of problems nor their length grows with what was sent.
"""

from typing import Final

from attrs import frozen

from nixfleet_proto.errors import NixfleetError

PROBLEMS_SHOWN_MAX: Final = 20
PROBLEMS_LOOKED_FOR: Final = PROBLEMS_SHOWN_MAX + 1
"""How many problems are looked for in a list before the rest of the list is left unread."""
SHOWN_LENGTH_MAX: Final = 60


@frozen
class DecodeProblem:
    """One thing that is wrong, and where: `$` is the whole text, `$.event.seq` a field of it."""

    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


class DecodeError(NixfleetError):
    """Bytes are not what they should be. `what` was read; `problems` has at least one entry.

    In a list with more than `PROBLEMS_SHOWN_MAX` items that cannot be read, the items after those are not read.
    """

    def __init__(self, what: str, problems: tuple[DecodeProblem, ...]) -> None:
        super().__init__(what, problems)
        self.what = what
        self.problems = problems

    @property
    def shown(self) -> tuple[DecodeProblem, ...]:
        """The first problems, at most `PROBLEMS_SHOWN_MAX`."""
        return self.problems[:PROBLEMS_SHOWN_MAX]

    @property
    def more(self) -> int:
        """How many problems are known beyond those in `shown`."""
        return len(self.problems) - len(self.shown)

    def __str__(self) -> str:
        more = f"; and {self.more} more" if self.more else ""
        return f"not a valid {self.what}: " + "; ".join(map(str, self.shown)) + more


def cut(text: str) -> str:
    """Return `text` with at most `SHOWN_LENGTH_MAX` characters, and an ellipsis if it was longer."""
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"
