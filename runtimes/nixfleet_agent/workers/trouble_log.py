"""What fails again and again is said when that begins, when the reason becomes another one, and when it is over."""

import logging


class Trouble:
    """Something that may fail for a while. what: its name in the log, such as `the heartbeat`."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._kind: str | None = None

    def goes_on(self, kind: str, problem: object) -> None:
        """It went wrong. kind: what tells one problem from another; the text may differ every time."""
        if kind != self._kind:
            self._kind = kind
            self._log.warning("%s fails: %s", self._what, problem)

    def is_over(self) -> None:
        """It went well."""
        if self._kind is not None:
            self._kind = None
            self._log.info("%s works again", self._what)
