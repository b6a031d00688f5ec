"""When the control plane last answered this agent, for probes of kind `home`. Shared by workers; no decisions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from nixfleet_runtime.transport import TransportFailed


class Contact:
    """answered_at: the latest answer to this process; `None` before the first one. now: the agent's clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.answered_at: datetime | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the answer to a request that is made inside. A refusal is an answer: it came all the way."""
        try:
            yield
        except TransportFailed as failure:
            if failure.was_answered:
                self.answered_at = self._now()
            raise
        self.answered_at = self._now()
