"""How long work says how far it is: by calling what it was given. Whoever shows that decides how. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

Noted: TypeAlias = Callable[[int], None]
"""Called with how many items were done since the last call."""
NOTED_EVERY: Final = 500


def unnoted(_count: int) -> None:
    """Tell nobody."""


def noting(items: Iterable[T], noted: Noted, every: int = NOTED_EVERY) -> Iterator[T]:
    """Yield `items`, and note every so many of them, and the rest at the end."""
    count = 0
    for item in items:
        yield item
        count += 1
        if count == every:
            noted(count)
            count = 0
    noted(count)
