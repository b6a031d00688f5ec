"""Where another policy would stand now, beside the recorded one, on the same facts, as a log grows.

Two states are kept: that of the last row, and that from before the oldest rollout that matters. What matters is played
again from there at each look, under both policies, and taken back by the undo log. So a look costs what the rollouts
under way cost, and not the whole log; and nothing is kept of rows before.
Source: docs/spec/forecast.md, Shadow policies.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from attrs import frozen

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import LogRow, Planned
from nixfleet_forecast.backtest.backtest import BackTest, Play, Revise, RolloutCourse
from nixfleet_forecast.backtest.recording import Recording
from nixfleet_forecast.course import GOING
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.planner.holds.calendar import Zones

_ROWS_BETWEEN: Final = 1_000
"""After so many rows it is looked which of them have to be kept."""
_NAMED_MAX = 5


@frozen
class Difference:
    """Where a rollout would be otherwise. text: what would be, and what is."""

    rollout_id: RolloutId
    text: str


class Shadow:
    """Another policy beside a log. base, head: two replays of the log from its beginning, for this alone.

    A rollout matters from its opening until it is superseded, or until it has ended under both policies.
    """

    def __init__(self, base: Replay, head: Replay, zones: Zones) -> None:
        self._base = base
        self._recording = Recording(head)
        self._zones = zones
        self._rows: deque[LogRow] = deque()
        self._begins: dict[RolloutId, int] = {}
        self._going_otherwise = frozenset[RolloutId]()

    @property
    def head_seq(self) -> int:
        """The number of the last row that was taken."""
        return self._recording.state.head_seq

    @property
    def rows_kept(self) -> int:
        """How many rows are played again at each look."""
        return len(self._rows)

    def take(self, row: LogRow) -> None:
        """Take the next row. Raises: DamagedRow."""
        self._recording.take(row)
        self._rows.append(row)
        entry = entry_of(row).entry
        if isinstance(entry, Planned) and isinstance(entry.action, OpenRollout):
            rollout_id = entry.action.rollout_id
            self._begins[rollout_id] = self._recording.published_seq(rollout_id) or row.seq
        if row.seq % _ROWS_BETWEEN == 0:
            self._forget()

    def differences(self, revise: Revise) -> tuple[Difference, ...]:
        """Return where the rollouts that matter would stand otherwise now. revise: gives the other policy."""
        self._forget()
        other = self.played(revise)
        recorded = self.played()
        self._going_otherwise = frozenset(
            it.rollout_id for it in other.rollouts if it.state in GOING
        )
        mattering = self.mattering()
        found = tuple(it for it in differences(recorded, other) if it.rollout_id in mattering)
        self._forget()
        return found

    def played(self, revise: Revise = lambda taken: taken) -> BackTest:
        """Return how the rollouts that matter go; under the recorded policy as they did."""
        state = self._base.state
        state.undo.settle()
        try:
            play = Play(self._recording, state, self._zones, revise, is_taken_back=True)
            return play.run(timedelta(0))
        finally:
            state.undo.undo_to(0)

    def mattering(self) -> frozenset[RolloutId]:
        """Return the rollouts that are under way or halted, or under way under the other policy."""
        view = self._recording.state.view
        return frozenset(
            rollout_id
            for rollout_id in self._begins
            if rollout_id in view.open_rollouts
            and (
                view.rollouts[rollout_id].state in GOING
                or view.rollouts[rollout_id].state.is_halted
                or rollout_id in self._going_otherwise
            )
        )

    def _forget(self) -> None:
        """Let the base come as near to the head as what matters permits."""
        mattering = self.mattering()
        self._begins = {it: seq for it, seq in self._begins.items() if it in mattering}
        keep_from = min(self._begins.values(), default=self.head_seq + 1)
        if not self._rows or self._rows[0].seq >= keep_from:
            return
        while self._rows and self._rows[0].seq < keep_from:
            for _ in self._base.take(self._rows.popleft()):
                pass
        self._recording.forget(keep_from)


def differences(recorded: BackTest, other: BackTest) -> tuple[Difference, ...]:
    """Return where the rollouts of `other` differ from the recorded ones, both as far as the log goes; by rollout."""
    courses = {it.rollout_id: it for it in other.rollouts}
    return tuple(
        Difference(course.rollout_id, text)
        for course in sorted(recorded.rollouts, key=lambda it: it.rollout_id)
        if course.rollout_id in courses
        for text in _texts(course, courses[course.rollout_id])
    )


def _texts(is_: RolloutCourse, would: RolloutCourse) -> Iterator[str]:
    if (is_.state, is_.wave) != (would.state, would.wave):
        yield f"would be {would.state} at wave {would.wave}, is {is_.state} at wave {is_.wave}"
    earlier, later = would.begun - is_.begun, is_.begun - would.begun
    if earlier:
        yield f"would have begun {_named(sorted(earlier))}, which did not begin"
    if later:
        yield f"would not have begun {_named(sorted(later))}, which began"
    if is_.harmed != would.harmed:
        yield f"would have harmed {len(would.harmed)} hosts, harmed {len(is_.harmed)}"


def _named(hosts: Sequence[str]) -> str:
    more = len(hosts) - _NAMED_MAX
    named = ", ".join(hosts[:_NAMED_MAX])
    return f"{named} and {more} more" if more > 0 else named
