"""Which requests may be carried out: each once, in its minute, and only for the host whose key signed it.

Source: docs/spec/trust.md, Request signatures.
"""

import math
from datetime import datetime
from typing import Final

WINDOW_SECONDS: Final = 60


class RequestModel:
    """The requests that the running control plane has carried out."""

    def __init__(self) -> None:
        self._carried_out: set[int] = set()
        self._first_second = 0

    def started(self, at: datetime) -> None:
        """A control plane started: what it carried out before is forgotten. at: by its clock."""
        self._carried_out = set()
        self._first_second = math.ceil(at.timestamp())

    def objection(
        self, number: int, created: int, now: datetime, *, is_altered: bool
    ) -> str | None:
        """Return why a request must not be carried out, `None` if nothing is wrong with it.

        number: the same for all copies of a request. created: when it was signed, by the signer's clock. now: by the
        control plane's.
        """
        apart = created - math.floor(now.timestamp())
        if abs(apart) > WINDOW_SECONDS:
            return f"it was signed {apart} s from now"
        if self._first_second - WINDOW_SECONDS <= created < self._first_second:
            return "it was signed in the minute before the start"
        if is_altered:
            return "its body was altered"
        if number in self._carried_out:
            return "it was carried out before"
        self._carried_out.add(number)
        return None
