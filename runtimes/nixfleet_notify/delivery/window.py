"""The last pages of the log that were read, so that hooks at its end share them. Pure, and bounded.

A hook that is further behind reads pages of its own.
"""

from collections import deque
from typing import Final

from attrs import evolve

from nixfleet_runtime.http.listings import FeedPage

PAGES_KEPT: Final = 20


class Window:
    """Pages that follow each other without a gap."""

    def __init__(self) -> None:
        self._pages: deque[tuple[int, FeedPage]] = deque(maxlen=PAGES_KEPT)

    def add(self, after: int, page: FeedPage) -> None:
        """Take the page that followed row `after`."""
        if page.begins is not None or (self._pages and self._pages[-1][1].next != after):
            self._pages.clear()
        if page.begins is None and page.next > after:
            self._pages.append((after, page))

    def clear(self) -> None:
        """Forget all pages: they are of another log."""
        self._pages.clear()

    def page(self, after: int) -> FeedPage | None:
        """Return what follows row `after`, as a page would have it; `None`: it is not here."""
        for begin, page in self._pages:
            if begin <= after < page.next:
                lines = tuple(line for line in page.events if line.seq > after)
                return evolve(page, events=lines)
        return None
