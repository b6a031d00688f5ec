"""How long the stages of this fleet's hosts took, by the control plane's clock, read from its log line by line.

A stage runs from the row that begins it to the row that ends it: queued to acknowledged, acknowledged to switched, due
to converged, and Deferred to switched for a host that waits for its reboot. What hosts say of their own clocks counts
nowhere, but for the end of a soak, which is signed.
Source: docs/spec/forecast.md, Stages.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_control_plane.engine.state import HostKey
from nixfleet_control_plane.history.follower import AppliedEntry
from nixfleet_control_plane.messages.log_entry import FactReported, Planned, RolloutMoved
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    Converged,
    DispatchAck,
    Failed,
    Postponed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.forecasts import StageKnown
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import QueueDispatch, WithdrawDispatch
from nixfleet_state_machine.rollout.event import (
    RetentionExpired,
    Stage,
    SuccessorOpened,
    subject_of,
)

OBSERVATIONS_MIN: Final = 5
"""Below so many observations of a stage nothing is said."""
_FLEET_MAX: Final = 1000
_HOST_MAX: Final = 30


@frozen
class Begun:
    """The stage that a host is at, and since when by the control plane's clock."""

    stage: Stage
    since: datetime


class Durations:
    """The durations of each stage in seconds: the latest of each host and of the fleet.

    begun: the stage that each host is at, as far as the log says.
    """

    def __init__(self) -> None:
        self.begun: dict[HostKey, Begun] = {}
        self._fleet: dict[Stage, deque[float]] = {it: deque(maxlen=_FLEET_MAX) for it in Stage}
        self._hosts: dict[tuple[Stage, str], deque[float]] = {}

    def take(self, applied: AppliedEntry) -> None:
        """Learn from a line of the log, which was just applied. Lines come in order."""
        entry, at = applied.logged.entry, applied.logged.at
        if isinstance(entry, Planned):
            action = entry.action
            if isinstance(action, QueueDispatch):
                self._begin((action.rollout_id, action.host), Stage.ACK, at)
            elif isinstance(action, WithdrawDispatch):
                self.begun.pop((action.rollout_id, action.host), None)
        elif isinstance(entry, FactReported) and isinstance(applied.after, HostRolloutState):
            self._take_fact(entry, applied.after, at)
        elif isinstance(entry, RolloutMoved):
            event = entry.event
            if isinstance(event, SuccessorOpened | RetentionExpired):
                self._forget(subject_of(event))

    def fleet(self, stage: Stage) -> Sequence[float]:
        """Return what the stage took in the fleet, the latest last."""
        return self._fleet[stage]

    def host(self, stage: Stage, hostname: str) -> Sequence[float]:
        """Return what the stage took on one host, the latest last."""
        return self._hosts.get((stage, hostname), ())

    def known(self, stage: Stage) -> StageKnown:
        """Return what is known of a stage."""
        seconds = sorted(self._fleet[stage])
        if not seconds:
            return StageKnown(stage, 0)
        return StageKnown(
            stage, len(seconds), round(quantile(seconds, 0.5)), round(quantile(seconds, 0.95))
        )

    def lacking(self) -> tuple[StageKnown, ...]:
        """Return the stages that every host goes through, and of which too little was observed."""
        needed = (Stage.ACK, Stage.ACTIVATION, Stage.CONVERGENCE)
        known = (self.known(stage) for stage in needed)
        return tuple(it for it in known if it.observations < OBSERVATIONS_MIN)

    def _take_fact(self, entry: FactReported, record: HostRolloutState, at: datetime) -> None:
        key, fact = (entry.rollout_id, entry.host), entry.fact
        match fact:
            case DispatchAck():
                self._end(key, Stage.ACK, at)
                self._begin(key, Stage.ACTIVATION, at)
            case Postponed():
                self.begun.pop(key, None)
            case ActivationDeferred():
                self._end(key, Stage.ACTIVATION, at)
                self._begin(key, Stage.REBOOT, at)
            case ActivationCompleted():
                self._end(key, Stage.ACTIVATION, at)
                self._end(key, Stage.REBOOT, at)
                self._begin(key, Stage.CONVERGENCE, max(soak_end_of(record) or at, at))
            case Converged():
                self._end(key, Stage.CONVERGENCE, at)
                self.begun.pop(key, None)
            case Failed() | ActivationFailed():
                self.begun.pop(key, None)
                if record.is_rolling_back:  # The way back is a switch as well.
                    self._begin(key, Stage.ACTIVATION, at)
            case RollbackComplete():
                self._end(key, Stage.ACTIVATION, at)
                self.begun.pop(key, None)
            case _:
                pass  # It begins no stage and ends none.

    def _begin(self, key: HostKey, stage: Stage, at: datetime) -> None:
        self.begun[key] = Begun(stage, at)

    def _end(self, key: HostKey, stage: Stage, at: datetime) -> None:
        begun = self.begun.get(key)
        if begun is None or begun.stage is not stage:
            return
        seconds = max(0.0, (at - begun.since).total_seconds())
        self._fleet[stage].append(seconds)
        self._hosts.setdefault((stage, key[1]), deque(maxlen=_HOST_MAX)).append(seconds)

    def _forget(self, rollout_id: RolloutId) -> None:
        for key in [key for key in self.begun if key[0] == rollout_id]:
            del self.begun[key]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of `ordered`, which is sorted and not empty, does not exceed."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
