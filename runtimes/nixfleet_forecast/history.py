"""A log as a forecast reads it, row by row: the state, how long stages took, what happened, and how good the ranges
were that would have been given.

For the last rollouts that ended, a range is computed from what was known when they were opened, and held against the
end. That is no promise for the next one, but it shows a fleet that does not behave as its past.
Source: docs/spec/forecast.md, Calibration.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Final

from nixfleet_control_plane.history.follower import AppliedEntry, Replay
from nixfleet_control_plane.messages.log_entry import LogRow, Planned, RolloutMoved
from nixfleet_forecast.course import PastCourses
from nixfleet_forecast.durations import Durations
from nixfleet_forecast.forecast import RUNS_MIN, Subject, forecast
from nixfleet_proto.codec import parse_time
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.forecasts import Calibration, Forecast, Span
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.rollout.event import (
    RetentionExpired,
    RolloutTerminal,
    SuccessorOpened,
    subject_of,
)

RANGES_MAX: Final = 20
_HOST_RUNS_MAX: Final = 20_000


class History:
    """A log, as far as its rows were taken.

    judged: the rollouts whose end is forecast when they open, to see later whether it held; besides these, all that
    open after row `judged_after`.
    """

    def __init__(
        self,
        replay: Replay,
        zones: Zones,
        judged: Collection[str] = (),
        judged_after: int | None = None,
    ) -> None:
        self._replay = replay
        self._wanted = judged
        self._wanted_after = judged_after
        self._opened: list[tuple[RolloutId, datetime]] = []
        self._casts: dict[RolloutId, Span] = {}
        self._judged: deque[bool] = deque(maxlen=RANGES_MAX)
        self.subject = Subject(replay.state, Durations(), PastCourses(), zones)

    @property
    def head_seq(self) -> int:
        """The number of the last row that was taken."""
        return self._replay.state.head_seq

    @property
    def calibration(self) -> Calibration | None:
        """How many of the ranges held; `None`: none could be judged."""
        return Calibration(len(self._judged), sum(self._judged)) if self._judged else None

    def take(self, row: LogRow) -> None:
        """Take the next row. Raises: DamagedRow."""
        if self._opened and self._opened[0][1] != parse_time(row.ts):
            self._cast()
        for applied in self._replay.take(row):
            self.subject.durations.take(applied)
            self.subject.past.take(applied, self._replay.state)
            self._note(applied)

    def forecast(
        self,
        now: datetime,
        rollout_id: RolloutId | None = None,
        *,
        seed: int = 0,
        is_late: Callable[[], bool] = lambda: False,
    ) -> Forecast:
        """Return what is to come as of `now`, after the rows that were taken. is_late: as of `forecast`."""
        only = None if rollout_id is None else (rollout_id,)
        known = self.calibration
        return forecast(self.subject, now, only=only, seed=seed, calibration=known, is_late=is_late)

    def _note(self, applied: AppliedEntry) -> None:
        entry, at = applied.logged.entry, applied.logged.at
        if isinstance(entry, Planned) and isinstance(entry.action, OpenRollout):
            is_new = self._wanted_after is not None and applied.logged.seq > self._wanted_after
            if is_new or entry.action.rollout_id in self._wanted:
                self._opened.append((entry.action.rollout_id, at))
        elif isinstance(entry, RolloutMoved):
            if isinstance(entry.event, RolloutTerminal):
                self._judge(entry.event.rollout_id, at)
            elif isinstance(entry.event, SuccessorOpened | RetentionExpired):
                self._casts.pop(subject_of(entry.event), None)  # It comes to no end any more.

    def _judge(self, rollout_id: RolloutId, ended_at: datetime) -> None:
        span = self._casts.pop(rollout_id, None)
        if span is not None and span.p10 is not None and span.p90 is not None:
            self._judged.append(span.p10 <= ended_at <= span.p90)

    def _cast(self) -> None:
        """Forecast the rollouts that were opened at the time of the row before, from what was known then."""
        only, at = dict(self._opened), self._opened[0][1]
        self._opened.clear()
        told = forecast(self.subject, at, only=only, runs=RUNS_MIN)
        if told.runs:
            self._casts.update((it.rollout_id, it.done) for it in told.rollouts)


class ToJudge:
    """Finds the last rollouts that ended: as many as some seconds are enough to forecast.

    Reads rows by their columns alone, so it may find one that did not end: its forecast costs time and counts for
    nothing.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, set[str]] = {}
        self._ended: dict[str, None] = {}

    def take(self, row: LogRow) -> None:
        """Take the next row."""
        if row.rollout_id is None:
            return
        if row.host_id is not None:
            self._hosts.setdefault(row.rollout_id, set()).add(row.host_id)
        if row.kind == "rollout_event" and RolloutTerminal.__name__ in row.payload:
            self._ended[row.rollout_id] = None

    def found(self, ranges_max: int = RANGES_MAX) -> Collection[str]:
        """Return the last ones that ended by the rows that were taken, at most `ranges_max`."""
        chosen: list[str] = []
        left = _HOST_RUNS_MAX
        for rollout_id in reversed(self._ended):
            left -= RUNS_MIN * len(self._hosts.get(rollout_id, ()))
            if left < 0 or len(chosen) == ranges_max:
                break
            chosen.append(rollout_id)
        return frozenset(chosen)


def to_judge(rows: Iterable[LogRow], ranges_max: int = RANGES_MAX) -> Collection[str]:
    """Return the last rollouts that ended by `rows`, the log, as `ToJudge` finds them."""
    finder = ToJudge()
    for row in rows:
        finder.take(row)
    return finder.found(ranges_max)
