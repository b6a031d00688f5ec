"""The trace of an in-memory fleet: one line for each fact, effect, log row and call, and how it is printed. Data.

A `fact` is what a host put into its journal; an `effect` what an engine ordered; a `row` what the control plane
appended to its log; facts and rows begin with their number. Lines are in the order in which they became durable.
Printed, routine lines are gathered: a probe that repeats its last result, and rows that repeat a host's fact.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import assert_never, overload

from attrs import evolve, frozen

from nixfleet_simulation.nodes.agenda import SECOND


class Kind(StrEnum):
    """What a line is about."""

    ACT = "act"
    FACT = "fact"
    EFFECT = "effect"
    ROW = "row"


@frozen
class TraceLine:
    """One thing that happened. at: seconds since the fleet was made.

    who: a host, `control-plane` or `you`. routine: whether it says nothing new, see the module.
    """

    at: float
    who: str
    kind: Kind
    what: str
    routine: bool = False

    def __str__(self) -> str:
        return f"{elapsed(self.at)}  {self.who:<13}  {self.kind:<6}  {self.what}"


class FleetTrace(Sequence[TraceLine]):
    """All lines so far. `str` gives the readable text. began_at: the virtual time that lines count from."""

    def __init__(self, began_at: int, lines: Iterable[TraceLine] = ()) -> None:
        self._began_at = began_at
        self._lines = list(lines)

    def add(self, at: int, who: str, kind: Kind, what: str, *, routine: bool = False) -> None:
        """Append a line. at: virtual time in microseconds; what was before the beginning is left out."""
        if at >= self._began_at:
            seconds = (at - self._began_at) / SECOND
            self._lines.append(TraceLine(seconds, who, kind, what, routine))

    def elapsed(self, at: int) -> str:
        """Return the time since the beginning, as the lines show it."""
        return elapsed((at - self._began_at) / SECOND)

    def of(self, *kinds: Kind) -> tuple[TraceLine, ...]:
        """Return the lines of these kinds."""
        return tuple(line for line in self._lines if line.kind in kinds)

    @property
    def facts(self) -> tuple[TraceLine, ...]:
        """The lines of facts."""
        return self.of(Kind.FACT)

    @property
    def effects(self) -> tuple[TraceLine, ...]:
        """The lines of effects."""
        return self.of(Kind.EFFECT)

    @property
    def rows(self) -> tuple[TraceLine, ...]:
        """The lines of log rows."""
        return self.of(Kind.ROW)

    @overload
    def __getitem__(self, index: int) -> TraceLine: ...

    @overload
    def __getitem__(self, index: slice) -> "FleetTrace": ...

    def __getitem__(self, index: int | slice) -> "TraceLine | FleetTrace":
        if isinstance(index, slice):
            return FleetTrace(self._began_at, self._lines[index])
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)

    def __str__(self) -> str:
        return "\n".join(_readable(self._lines))


def elapsed(seconds: float) -> str:
    """Return `seconds` as `+h:mm:ss`, rounded down."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{rest:02}"


def _readable(lines: Iterable[TraceLine]) -> Iterator[str]:
    """Yield the lines; routine ones are gathered, and follow as one line before the next other line of that kind."""
    routine: dict[tuple[str, Kind], list[TraceLine]] = {}
    for line in lines:
        key = line.who, line.kind
        if line.routine:
            routine.setdefault(key, []).append(line)
            continue
        if key in routine:
            yield str(_gathered(routine.pop(key)))
        yield str(line)
    for left in routine.values():
        yield str(_gathered(left))


def _gathered(lines: Sequence[TraceLine]) -> TraceLine:
    """Return one line for all of `lines`, at the time of the last; each begins with its number."""
    first, last = lines[0].what.split()[0], lines[-1].what.split()[0]
    if first == last:
        return evolve(lines[0], at=lines[-1].at)
    kind = lines[-1].kind
    match kind:
        case Kind.FACT:
            what = f"{first}-{last} {len(lines)} probe results, as before"
        case Kind.ROW:
            names = sorted({line.what.split()[1] for line in lines})
            what = f"{first}-{last} facts of {', '.join(names)}"
        case Kind.ACT | Kind.EFFECT:
            what = f"{len(lines)} as before"
        case _:
            assert_never(kind)
    return evolve(lines[-1], what=what)
