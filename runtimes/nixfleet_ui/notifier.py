"""What the page says of a notifier on this machine: it is read when the page asks, and nothing of it is kept.

A notifier keeps its state in files, and no control plane knows of it. Source: docs/spec/local-page.md, Notifiers.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case


@frozen
class NotifierNeed:
    """A hook that needs a person. text, answer: sentences. problem: of its receiver. terminal: what answers it."""

    hook: str
    text: str
    answer: str
    dead_letters: int
    terminal: str
    problem: str = ""
    since: datetime | None = None


@frozen
class NotifierStanding:
    """How a notifier stands. is_read: whether one was named at all. problem: why its files cannot be read."""

    is_read: bool
    needs: tuple[NotifierNeed, ...] = ()
    problem: str | None = None


Notifier: TypeAlias = Callable[[], NotifierStanding]
"""Reads how a notifier stands. Blocks, and raises nothing."""


def no_notifier() -> NotifierStanding:
    """Return that none was named."""
    return NotifierStanding(is_read=False)


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
STANDING: Final = Coder[NotifierStanding](_SPELLING, NotifierStanding, "notifier")
