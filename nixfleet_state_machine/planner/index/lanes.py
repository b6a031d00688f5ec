"""Waiting hosts, grouped into lanes, so that `replan` evaluates a group once and skips groups that did not change.

No gate distinguishes the hosts of one lane: they belong to one rollout and one wave, to the same budgets, and have
the same snag or none. So the gates are evaluated for one host of a lane, and when the result is the one that all its
hosts were given before, the others are skipped.

Only `replan` moves hosts between lanes, and a move is not rolled back. The change that caused it is, so the next
`replan` moves the host again. A first plan would otherwise note a million moves.
"""

from bisect import bisect_left, insort
from collections.abc import Collection
from typing import NamedTuple

from attrs import Factory, define

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.undo import UndoableDict, UndoLog


class LaneKey(NamedTuple):
    """The properties of a host that the gates read, besides its rollout.

    snag: the block of a gate that depends on the host itself: its closure's quarantine, its own hold, or a gating host.
    budgets: their indexes in the terms. Empty with a snag, which holds the host before any budget is evaluated.
    group: by which a calendar holds it.
    has_slots: whether the host has its slots of them already, since it is down.
    """

    wave: int | None
    snag: GateBlock | None
    budgets: tuple[int, ...]
    group: str | None = None
    has_slots: bool = False


@define(eq=False)
class Lane:
    """The waiting hosts with one key, sorted. last_block: the one that all of them were given last, if there is one."""

    rollout_id: RolloutId
    key: LaneKey
    hosts: list[str] = Factory(list[str])
    last_block: GateBlock | None = None


@define(eq=False)
class _RolloutLanes:
    """The lanes of one rollout. Free lanes are few and snagged ones may be many: so they are kept apart."""

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
        """Move `hostname` to the lane of `key`, and return that lane."""
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
        """Take `hostname` out of its lane, if it is in one."""
        lanes = self._rollouts.get(rollout_id)
        lane = None if lanes is None else lanes.of_host.pop(hostname, None)
        if lanes is None or lane is None:
            return
        del lane.hosts[bisect_left(lane.hosts, hostname)]
        if not lane.hosts:
            del lanes.group(lane.key)[lane.key]

    def set_last_block(self, lane: Lane, block: GateBlock | None) -> None:
        """Record the block that all hosts of `lane` were given; `None`: they differ, or one was dispatched."""
        self._undo.note(setattr, lane, "last_block", lane.last_block)
        lane.last_block = block

    def free(self, rollout_id: RolloutId) -> Collection[Lane]:
        """Return the lanes without a snag."""
        lanes = self._rollouts.get(rollout_id)
        return () if lanes is None else lanes.free.values()

    def snagged(self, rollout_id: RolloutId) -> Collection[Lane]:
        """Return the lanes with a snag."""
        lanes = self._rollouts.get(rollout_id)
        return () if lanes is None else lanes.snagged.values()

    def hosts_of(self, rollout_id: RolloutId) -> Collection[str]:
        """Return the hosts of a rollout that are in a lane."""
        lanes = self._rollouts.get(rollout_id)
        return () if lanes is None else lanes.of_host.keys()

    def forget(self, rollout_id: RolloutId) -> None:
        """Drop the lanes of a rollout."""
        self._rollouts.discard(rollout_id)

    def _made(self, rollout_id: RolloutId) -> _RolloutLanes:
        lanes = _RolloutLanes()
        self._rollouts.set(rollout_id, lanes)
        return lanes
