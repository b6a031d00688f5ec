"""When which judge is asked next. Pure: told what is asked by the engine, what is under way, and the time.

Source: docs/spec/guards.md, Checks.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.messages.inputs import CheckQuestion


def due_checks(
    asked: Collection[AskedCheck], last: Mapping[CheckQuestion, datetime], now: datetime
) -> tuple[AskedCheck, ...]:
    """Return the checks whose judges are to be asked now.

    last: when each was asked last by this process. One that was never answered is asked at once, and after a restart
    each is asked an interval after its last verdict in the log.
    """
    return tuple(each for each in asked if _due_at(each, last.get(each.question)) <= now)


def next_due(
    asked: Collection[AskedCheck], last: Mapping[CheckQuestion, datetime]
) -> datetime | None:
    """Return when a judge is to be asked next; `None`: nothing is asked."""
    return min((_due_at(each, last.get(each.question)) for each in asked), default=None)


def _due_at(asked: AskedCheck, last: datetime | None) -> datetime:
    interval = timedelta(seconds=asked.check.interval_seconds)
    if last is not None:
        return last + interval
    return asked.since + interval if asked.is_answered else asked.since
