"""What an attempt came to. Data, and what statuses and exit codes mean. Pure.

Source: docs/spec/notifications.md, Answers.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

from attrs import frozen

from nixfleet_notify.delivery.schedule import WAIT_MAX

_REFUSES_MESSAGE: Final = frozenset({400, 413, 414, 415, 422})
_GONE: Final = 410
_EXIT_REFUSES_MESSAGE: Final = 65  # EX_DATAERR of sysexits.h


class Outcome(Enum):
    """DELIVERED: the receiver has it. FAILED: try again later. REFUSED: this message is refused, others may be taken.
    GONE: the receiver wants no more messages."""

    DELIVERED = auto()
    FAILED = auto()
    REFUSED = auto()
    GONE = auto()


@frozen
class Answer:
    """The outcome of one attempt. problem: why it is not delivered. retry_after_seconds: as it asked."""

    outcome: Outcome
    problem: str = ""
    retry_after_seconds: float = 0.0


DELIVERED: Final = Answer(Outcome.DELIVERED)


def failed(problem: str) -> Answer:
    """Return the answer of an attempt that came to nothing."""
    return Answer(Outcome.FAILED, problem)


def http_answer(
    status: int, location: str | None, retry_after: str | None, now: datetime
) -> Answer:
    """Return what an HTTP answer means. location, retry_after: the headers, which anybody may have written."""
    if 200 <= status < 300:
        return DELIVERED
    if status == _GONE:
        return Answer(Outcome.GONE, "status 410: the receiver wants no more messages")
    if status in _REFUSES_MESSAGE:
        return Answer(
            Outcome.REFUSED, f"expected status 2xx, found {status}: it refuses the message"
        )
    where = ""
    if 300 <= status < 400:
        where = f": redirects are not followed ({(location or 'to nowhere')[:200]!r})"
    problem = f"expected status 2xx, found {status}{where}"
    return Answer(Outcome.FAILED, problem, _seconds(retry_after, now))


def exit_answer(exit_code: int, problem: str) -> Answer:
    """Return what the end of a program means. problem: what it said, or why there was no end of its own."""
    match exit_code:
        case 0:
            return DELIVERED
        case code if code == _EXIT_REFUSES_MESSAGE:
            return Answer(Outcome.REFUSED, problem)
        case _:
            return Answer(Outcome.FAILED, problem)


def _seconds(retry_after: str | None, now: datetime) -> float:
    """Return the seconds that a `Retry-After` asks for, from 0 to WAIT_MAX; 0 for what is none."""
    text = (retry_after or "").strip()
    if text.isdecimal() and text.isascii():
        seconds = float(text[:12])
    else:
        try:
            at = parsedate_to_datetime(text)
            aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
            seconds = (aware - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), WAIT_MAX.total_seconds())
