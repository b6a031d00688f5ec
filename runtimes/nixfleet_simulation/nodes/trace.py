"""The trace of a simulation: one line for each event, hashed. The same seed and version give the same bytes.

Lines are text made of names, numbers and virtual time alone: no addresses, no sets in the order of their
hashes, no wall clock. Some lines also belong to the story; the rest only to the hash.
"""

import hashlib

from nixfleet_simulation.nodes.agenda import SECOND, Agenda

LINES_HASHED_AT_ONCE = 2_000


class Trace:
    """The trace so far. keeps_lines: also keep the text, for a reader or a comparison."""

    def __init__(self, agenda: Agenda, *, keeps_lines: bool = False) -> None:
        self._agenda = agenda
        self._keeps_lines = keeps_lines
        self._digest = hashlib.sha256()
        self._fresh: list[str] = []
        self.lines: list[str] = []
        self.story: list[tuple[int, str, str]] = []

    @property
    def now(self) -> int:
        """The virtual time, in microseconds."""
        return self._agenda.now

    def record(self, who: str, what: str) -> None:
        """Add a line to the hash."""
        self._fresh.append(f"{self._agenda.now} {who} {what}\n")
        if len(self._fresh) >= LINES_HASHED_AT_ONCE:
            self._hash()

    def narrate(self, who: str, what: str) -> None:
        """Add a line to the hash and the story."""
        self.record(who, what)
        if self._keeps_lines:
            self.story.append((self._agenda.now, who, what))

    def digest(self) -> str:
        """Return the hash of everything so far, in hex."""
        self._hash()
        return self._digest.hexdigest()

    def _hash(self) -> None:
        self._digest.update("".join(self._fresh).encode())
        if self._keeps_lines:
            self.lines += self._fresh
        self._fresh = []


def moment_of(moment: int) -> str:
    """Return `moment` as days, hours, minutes and seconds."""
    seconds, rest = divmod(moment, SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours:02}:{minutes:02}:{seconds:02}.{rest // 1000:03}"
    return f"{days}d {text}" if days else text
