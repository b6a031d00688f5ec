"""What was seen of a rollout in one run: when its waves began and ended, and when each host and all of it were done.

Source: docs/spec/forecast.md.
"""

from collections.abc import Iterator
from datetime import datetime
from math import ceil
from typing import Final

from attrs import Factory, define

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import AppliedEntry
from nixfleet_control_plane.messages.log_entry import Planned, RolloutMoved
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.rollout.event import subject_of
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing

MOST_PCT: Final = 95
GOING = frozenset({RolloutState.OPENING, RolloutState.ACTIVE, RolloutState.CONVERGING})
"""The states in which a rollout has an end to come."""


@define
class Course:
    """How far a rollout came. begins, ends: of its waves. converged: when each host did. most: when 95 of 100 hosts
    were settled. ended_at: when it was Terminal.
    """

    begins: dict[int, datetime] = Factory(dict[int, datetime])
    ends: dict[int, datetime] = Factory(dict[int, datetime])
    converged: dict[str, datetime] = Factory(dict[str, datetime])
    most: datetime | None = None
    ended_at: datetime | None = None

    def note_record(
        self, before: RolloutRecord, after: RolloutRecord, at: datetime, last_wave: int
    ) -> None:
        """Note a change of the rollout's record."""
        for wave in range(max(before.current_wave, 0), after.current_wave):
            self.ends.setdefault(wave, at)
        if after.guarded_since is not None and before.guarded_since is None:
            self.ends.setdefault(
                after.current_wave, at
            )  # Its end opened the guards of the next one.
        if after.state is RolloutState.TERMINAL and before.state is not RolloutState.TERMINAL:
            self.ended_at = at
            self.most = self.most or at
            for wave in range(last_wave + 1):
                self.ends.setdefault(wave, at)


class PastCourses:
    """The courses of rollouts by the log, read line by line: what has happened of them already."""

    def __init__(self) -> None:
        self.courses: dict[RolloutId, Course] = {}

    def of(self, rollout_id: RolloutId) -> Course:
        """Return the course of a rollout so far."""
        return self.courses.setdefault(rollout_id, Course())

    def take(self, applied: AppliedEntry, state: State) -> None:
        """Learn from a line of the log, which was just applied to `state`."""
        entry, at = applied.logged.entry, applied.logged.at
        if isinstance(entry, Planned) and isinstance(entry.action, QueueDispatch):
            begin_wave(
                self.of(entry.action.rollout_id),
                state,
                entry.action.rollout_id,
                entry.action.host,
                at,
            )
        elif isinstance(entry, RolloutMoved):
            rollout_id, before, after = subject_of(entry.event), applied.before, applied.after
            if isinstance(before, RolloutRecord) and isinstance(after, RolloutRecord):
                last = _last_wave(state, rollout_id)
                self.of(rollout_id).note_record(before, after, at, last)
                if after.state in (RolloutState.SUPERSEDED, RolloutState.PRUNED):
                    self.courses.pop(rollout_id, None)


class Settling:
    """How many hosts of a rollout that count are settled: converged, or failed for good."""

    def __init__(self, state: State, rollout_id: RolloutId) -> None:
        self._state = state
        self._rollout_id = rollout_id
        self._standings: object = None
        self._open: set[str] = set()
        self.base = 0

    def count(self) -> None:
        """Count anew if the standing of any host changed."""
        record = self._state.view.rollouts[self._rollout_id]
        if record.standings is self._standings:
            return
        self._standings = record.standings
        counted = [
            host
            for host in self._state.view.hosts_of(self._rollout_id)
            if record.standing_of(host.hostname).is_counted
        ]
        self.base = len(counted)
        self._open = {
            host.hostname
            for host in counted
            if host.state is not HostState.CONVERGED
            and not host.has_failed
            and record.standing_of(host.hostname) is Standing.COUNTED
        }

    def settle(self, hostname: str) -> None:
        """A host converged."""
        self._open.discard(hostname)

    @property
    def settled(self) -> int:
        """How many are settled."""
        return self.base - len(self._open)

    @property
    def are_most(self) -> bool:
        """Whether 95 of 100 are."""
        return self.settled >= ceil(self.base * MOST_PCT / 100)


def begin_wave(
    course: Course, state: State, rollout_id: RolloutId, host: str, at: datetime
) -> None:
    """Note that a host was dispatched."""
    if rollout_id in state.view.open_rollouts:
        wave = state.view.terms(rollout_id).wave_of.get(host)
        if wave is not None:
            course.begins.setdefault(wave, at)


def going(state: State) -> Iterator[RolloutId]:
    """Yield the rollouts that have an end to come, by id."""
    for rollout_id in sorted(state.view.open_rollouts):
        if state.view.rollouts[rollout_id].state in GOING:
            yield rollout_id


def _last_wave(state: State, rollout_id: RolloutId) -> int:
    return state.view.terms(rollout_id).last_wave if rollout_id in state.view.open_rollouts else 0
