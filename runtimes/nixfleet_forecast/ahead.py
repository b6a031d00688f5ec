"""The production engine run forward on a state: what is due is told to it in the order of time. Sans I/O.

What comes by the clock (windows, freezes, deadlines, bakes, the slots of a minute) and what hosts do are entries of one
order, so the engine decides between them as it does live. The caller keeps the state, or takes everything back by its
undo log.
Source: docs/spec/forecast.md.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Final, TypeAlias

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.entry_handlers import take_artefact
from nixfleet_control_plane.engine.rollout_course import amend
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    Action,
    Input,
    ListHosts,
    PlanTick,
    Reply,
    WakeHost,
)
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_control_plane.messages.writes import Write
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.passing_time import next_time

Act: TypeAlias = Callable[[], object]
"""What happens at a time: it tells the engine something, or adds entries."""
STEPS_MAX: Final = 10_000_000
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = 2**62
_AGAIN: Final = timedelta(seconds=1)
"""How long a due time is passed over that a tick left due, so that no run stands still."""


class Ahead:
    """A state that is run forward. now: how far.

    steps: how many there were; after `steps_max` it ends. on_queued: called with each dispatch that is queued.
    on_commit: called after each input, with whether it was the time alone that passed.
    """

    def __init__(
        self, state: State, zones: Zones, now: datetime, trust: TrustRoot | None = None
    ) -> None:
        """trust: whose statements and warrants are good."""
        # The log does not say which hosts were heard of: none has been, as far as this is concerned.
        state.began_at = _LONG_AGO
        self.state = state
        self.now = now
        self.on_queued: Callable[[Dispatch], object] = lambda _: None
        self.on_commit: Callable[[Commit[Write, Reply, Action], bool], object] = lambda _, __: None
        self._engine = ControlPlaneEngine(state, trust, zones)
        self._agenda: list[tuple[datetime, int, int, Act]] = []
        self._numbers = count()
        self._passed_over = now
        self.steps = 0
        self.steps_max = STEPS_MAX

    def at(self, when: datetime, act: Act, rank: int = LAST) -> None:
        """Let `act` happen at `when`, by its rank, and after what was to happen then already; what is past happens
        now."""
        heappush(self._agenda, (max(when, self.now), rank, next(self._numbers), act))

    def tell(self, input: Input) -> Reply:
        """Tell the engine something now, and return its reply."""
        commit = self._engine.handle(input, self.now)
        for action in commit.actions:
            if isinstance(action, WakeHost):
                waiting = self.state.dispatches.get(action.hostname)
                if waiting:
                    self.on_queued(waiting[-1])
        self.on_commit(commit, isinstance(input, PlanTick))
        return commit.reply

    def run(self, until: datetime, is_over: Callable[[], bool]) -> None:
        """Let time pass until `until`, until `is_over` says so, or until nothing is to come any more."""
        while self.steps < self.steps_max and not is_over():
            self.steps += 1
            edge, entry = self._next_edge(), self._agenda[0][0] if self._agenda else None
            times = [at for at in (edge, entry) if at is not None]
            if not times or min(times) > until:
                return
            if edge is not None and self._is_first(edge, entry):
                self._tick(edge)
            else:
                self.now, _, _, act = heappop(self._agenda)
                act()

    def publish(self, artefacts: Iterable[ArtefactTaken]) -> None:
        """Put artefacts in force now, each fleet before its manifests; their signatures are not looked at."""
        for entry in artefacts:
            is_known = entry.rollout_id is not None and entry.rollout_id in self.state.manifests
            take_artefact(self.state, CommitBuilder(), entry, self.now)
            if is_known and entry.rollout_id is not None:
                amend(self.state, CommitBuilder(), entry.rollout_id, self.now)
        self.plan()

    def plan(self) -> None:
        """Have the planner look at what was changed by other means than `tell`."""
        self.tell(ListHosts(None, 0))

    def _is_first(self, edge: datetime, entry: datetime | None) -> bool:
        """Whether the clock is looked at before what happens at `entry`."""
        return entry is None or edge <= entry

    def _next_edge(self) -> datetime | None:
        """Return when the clock has something to say next."""
        times = (self._engine.next_edge(), next_time(self.state.view))
        ahead = [max(at, self._passed_over) for at in times if at is not None]
        return min(ahead, default=None)

    def _tick(self, at: datetime) -> None:
        self.now = max(at, self.now)
        self.tell(PlanTick())
        left = self._next_edge()
        if left is not None and left <= self.now:
            self._passed_over = self.now + _AGAIN
