"""Whether the control plane answers this agent, and when it last did. Shared by workers; no decisions.

Several workers call it, so an outage is logged here, once when it begins and once when it ends.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_runtime.transport import TransportFailed

_LOG: Final = logging.getLogger(__name__)


class Contact:
    """answered_at: the latest answer to this process; `None` before the first one. now: the agent's clock."""

    def __init__(self, now: Callable[[], datetime], log: logging.Logger = _LOG) -> None:
        self._now = now
        self._log = log
        self._away_since: datetime | None = None
        self.answered_at: datetime | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the answer to a request that is made inside. A refusal is an answer: it came all the way."""
        try:
            yield
        except TransportFailed as failure:
            if failure.was_answered:
                self._answered()
            else:
                self._missed(failure)
            raise
        self._answered()

    def failed(self, failure: TransportFailed, trouble: Trouble) -> None:
        """Log the failure of one worker's request, unless it belongs to an outage, which is in the log already."""
        if self._away_since is None:
            trouble.failed(failure.kind, failure)

    def _missed(self, failure: TransportFailed) -> None:
        if self._away_since is None:
            self._away_since = self._now()
            self._log.warning(
                "the control plane is not reachable, and facts wait in the journal: %s", failure
            )

    def _answered(self) -> None:
        self.answered_at = self._now()
        if self._away_since is not None:
            seconds = round((self.answered_at - self._away_since).total_seconds())
            self._away_since = None
            self._log.info("the control plane is reachable again, after %d s", seconds)
