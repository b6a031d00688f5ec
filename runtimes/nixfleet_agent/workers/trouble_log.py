"""Logs a repeated failure once when it starts, when its cause changes, and when it ends."""

import logging


class Trouble:
    """An activity that may fail repeatedly. activity: its name in the log, such as `the heartbeat`."""

    def __init__(self, log: logging.Logger, activity: str) -> None:
        self._log = log
        self._activity = activity
        self._kind: str | None = None

    def failed(self, kind: str, problem: object) -> None:
        """Note a failure. kind: tells causes apart; the text of `problem` may differ every time."""
        if kind != self._kind:
            self._kind = kind
            self._log.warning("%s fails: %s", self._activity, problem)

    def succeeded(self) -> None:
        """Note a success."""
        if self._kind is not None:
            self._kind = None
            self._log.info("%s works again", self._activity)
