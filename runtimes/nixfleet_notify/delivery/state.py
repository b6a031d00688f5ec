"""What is durable of a hook, of its dead letters and of what an operator asks of it. Frozen data.

Source: docs/spec/notifications.md, Delivery.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_notify.delivery.needs import ToldNeed
from nixfleet_notify.messages.message import Message


@frozen
class HookState:
    """One hook. cursor: rows up to it are settled: delivered, a dead letter, or not wanted. `None`: nothing was read.

    log: of which log the cursor is. sending: what is under way, and `again`: the dead letter that it is, if it is one.
    attempts: of `sending`. failures: of the hook, in a row. due_at: before which nothing is sent. disabled: why
    nothing is sent at all. to_resend: dead letters that are asked for, by id. told_silent_since: of which outage the
    hook was told, and not yet of its end. told_needs: the same of needs.
    """

    cursor: int | None = None
    log: int = 1
    sending: Message | None = None
    again: str | None = None
    attempts: int = 0
    failures: int = 0
    due_at: datetime | None = None
    disabled: str = ""
    to_resend: tuple[str, ...] = ()
    told_silent_since: datetime | None = None
    delivered: int = 0
    delivered_at: datetime | None = None
    problem: str = ""
    problem_at: datetime | None = None
    told_needs: tuple[ToldNeed, ...] = ()


@frozen
class DeadLetter:
    """A message that was given up. problem: of the last attempt, at `at`."""

    message: Message
    attempts: int
    problem: str
    at: datetime


@frozen
class Retry:
    """An operator asks a hook to try now: also if it is disabled. dead: which dead letters to send again, by id."""

    dead: tuple[str, ...] = ()


@frozen
class Replay:
    """An operator asks a hook to send everything from row `from_seq` on again."""

    from_seq: int


Request: TypeAlias = Retry | Replay
