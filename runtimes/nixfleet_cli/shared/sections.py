"""Text in sections: a title, and rows whose columns stand below each other. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Row: TypeAlias = Sequence[str]
TIME = "%Y-%m-%d %H:%M:%SZ"


def section(title: str, rows: Iterable[Row]) -> str:
    """Return `rows` below `title`, or that there are none."""
    lines = list(_aligned(list(rows))) or ["none"]
    return "\n  ".join([title, *lines])


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
