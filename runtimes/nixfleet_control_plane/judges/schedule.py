"""When which judge is asked next. Pure: told what is asked by the engine, what is under way, and the time.

Source: docs/spec/guards.md, Checks.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_proto.ids import RolloutId


class CheckKey(NamedTuple):
    """One check of one wave of a rollout."""

    rollout_id: RolloutId
    wave: int
    name: str


def key_of(asked: AskedCheck) -> CheckKey:
    """Return which check it is."""
    return CheckKey(asked.rollout_id, asked.wave, asked.check.name)


def due_checks(
    asked: Collection[AskedCheck], last: Mapping[CheckKey, datetime], now: datetime
) -> tuple[AskedCheck, ...]:
    """Return the checks whose judges are to be asked now.

    last: when each was asked last by this process. One that was never answered is asked at once, and after a restart
    each is asked an interval after its last verdict in the log.
    """
    return tuple(each for each in asked if _due_at(each, last.get(key_of(each))) <= now)


def next_due(asked: Collection[AskedCheck], last: Mapping[CheckKey, datetime]) -> datetime | None:
    """Return when a judge is to be asked next; `None`: nothing is asked."""
    return min((_due_at(each, last.get(key_of(each))) for each in asked), default=None)


def _due_at(asked: AskedCheck, last: datetime | None) -> datetime:
    interval = timedelta(seconds=asked.check.interval_seconds)
    if last is not None:
        return last + interval
    return asked.since + interval if asked.is_answered else asked.since
