"""Waiting hosts, sorted into lanes: what lets `replan` leave alone whoever's situation did not change.

Hosts of one lane cannot be told apart by any gate: they are of one rollout and one wave, members of the
same budgets, and have the same snag or none. So one of them is asked for all, and when the answer is the
one they were told before, nobody else in the lane is looked at.

Only `replan` moves hosts between lanes, and a move is not undone: a host that was moved was stirred, which
is, and so the next `replan` puts it where it belongs. That spares a first plan a million undoings.
"""

from bisect import bisect_left, insort
from collections.abc import Collection
from typing import NamedTuple

from attrs import Factory, define

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.undo import UndoableDict, UndoLog


class LaneKey(NamedTuple):
    """What the gates look at in a host, besides its rollout.

    snag: the block of a gate that looks at the host by name: its closure's quarantine, or a gating host.
    budgets: their places in the terms. Left empty under a snag, which holds before any budget is asked.
    """

    wave: int | None
    snag: GateBlock | None
    budgets: tuple[int, ...]


@define(eq=False)
class Lane:
    """The waiting hosts with one key, in order. told: what each was told last; `None`: not all the same."""

    rollout_id: RolloutId
    key: LaneKey
    hosts: list[str] = Factory(list[str])
    told: GateBlock | None = None


@define(eq=False)
class _RolloutLanes:
    """Free lanes are few, snagged ones may be as many as hosts: they are kept apart to find the free fast."""

    free: dict[LaneKey, Lane] = Factory(dict[LaneKey, Lane])
    snagged: dict[LaneKey, Lane] = Factory(dict[LaneKey, Lane])
    of_host: dict[str, Lane] = Factory(dict[str, Lane])

    def group(self, key: LaneKey) -> dict[LaneKey, Lane]:
        return self.free if key.snag is None else self.snagged


class LaneIndex:
    """The lanes of all rollouts. An empty lane is dropped."""

    def __init__(self, undo: UndoLog) -> None:
        self._undo = undo
        self._rollouts = UndoableDict[RolloutId, _RolloutLanes](undo)

    def place(self, rollout_id: RolloutId, hostname: str, key: LaneKey) -> Lane:
        """Let `hostname` wait in the lane of `key`, and return that."""
        lanes = self._rollouts.get(rollout_id) or self._made(rollout_id)
        lane = lanes.of_host.get(hostname)
        if lane is not None and lane.key == key:
            return lane
        self.remove(rollout_id, hostname)
        group = lanes.group(key)
        lane = group.get(key)
        if lane is None:
            lane = group[key] = Lane(rollout_id, key)
        insort(lane.hosts, hostname)
        lanes.of_host[hostname] = lane
        return lane

    def remove(self, rollout_id: RolloutId, hostname: str) -> None:
        """Let `hostname` wait in no lane."""
        lanes = self._rollouts.get(rollout_id)
        lane = None if lanes is None else lanes.of_host.pop(hostname, None)
        if lanes is None or lane is None:
            return
        del lane.hosts[bisect_left(lane.hosts, hostname)]
        if not lane.hosts:
            del lanes.group(lane.key)[lane.key]

    def tell(self, lane: Lane, block: GateBlock | None) -> None:
        """Note what all hosts of `lane` were told; `None`: not all the same."""
        self._undo.note(setattr, lane, "told", lane.told)
        lane.told = block

    def free(self, rollout_id: RolloutId) -> Collection[Lane]:
        """Return the lanes without a snag."""
        lanes = self._rollouts.get(rollout_id)
        return () if lanes is None else lanes.free.values()

    def snagged(self, rollout_id: RolloutId) -> Collection[Lane]:
        """Return the lanes with a snag."""
        lanes = self._rollouts.get(rollout_id)
        return () if lanes is None else lanes.snagged.values()

    def forget(self, rollout_id: RolloutId) -> None:
        """Drop the lanes of a rollout."""
        self._rollouts.discard(rollout_id)

    def _made(self, rollout_id: RolloutId) -> _RolloutLanes:
        lanes = _RolloutLanes()
        self._rollouts.set(rollout_id, lanes)
        return lanes
