"""Why hosts wait, counted as their deferrals change: how many for each reason of a rollout, and since when.

Kept for those who look on; nothing is decided by it. A reason that names the waiting host itself, or another host that
it waits for, is shortened to what such hosts share: so there are few groups, however many hosts wait.
Source: docs/spec/overview.md, Why hosts wait.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import DeferDispatch, Gate
from nixfleet_state_machine.undo import UndoableDict, UndoLog

_HOST_EDGE: Final = "each waits for another host to be Converged"
_OWN_HOLD: Final = "each is held itself"
_DEVICE: Final = "each is locked by its own device"


class WaitGroup(NamedTuple):
    """The hosts of a rollout that are held by one gate for one reason."""

    rollout_id: RolloutId
    gate: Gate
    reason: str


class WaitCount(NamedTuple):
    """How many hosts there are in a group, and since when there is one; since: `None`: not known."""

    hosts: int
    since: datetime | None


def group_of(deferral: DeferDispatch) -> WaitGroup:
    """Return the group of a host that is held."""
    return WaitGroup(deferral.rollout_id, deferral.gate, _shared_reason(deferral))


class WaitGroups:
    """The groups of all rollouts. Every change is noted in `undo`."""

    def __init__(self, undo: UndoLog) -> None:
        self._rollouts = UndoableDict[RolloutId, UndoableDict[WaitGroup, WaitCount]](undo)
        self._undo = undo

    def add(self, deferral: DeferDispatch, since: datetime | None) -> None:
        """A host is held. since: `None`: not known."""
        groups = self._rollouts.get(deferral.rollout_id)
        if groups is None:
            groups = UndoableDict[WaitGroup, WaitCount](self._undo)
            self._rollouts.set(deferral.rollout_id, groups)
        group = group_of(deferral)
        known = groups.get(group)
        if known is None:
            groups.set(group, WaitCount(1, since))
        else:
            groups.set(group, WaitCount(known.hosts + 1, _earlier(known.since, since)))

    def remove(self, deferral: DeferDispatch) -> None:
        """A host that was held is not held so any more."""
        groups, group = self._rollouts[deferral.rollout_id], group_of(deferral)
        known = groups[group]
        if known.hosts > 1:
            groups.set(group, known._replace(hosts=known.hosts - 1))
            return
        groups.discard(group)
        if not groups:
            self._rollouts.discard(deferral.rollout_id)

    def oldest(self, rollouts: Iterable[RolloutId]) -> dict[Gate, datetime]:
        """Return since when hosts of these rollouts wait for one reason, the earliest by gate."""
        found: dict[Gate, datetime] = {}
        for rollout_id in rollouts:
            for group, count in self.of(rollout_id):
                if count.since is not None:
                    found[group.gate] = min(found.get(group.gate, count.since), count.since)
        return found

    def hosts_in(self, group: WaitGroup) -> int:
        """Return how many hosts are in a group."""
        groups = self._rollouts.get(group.rollout_id)
        known = None if groups is None else groups.get(group)
        return 0 if known is None else known.hosts

    def of(self, rollout_id: RolloutId) -> Iterator[tuple[WaitGroup, WaitCount]]:
        """Yield the groups of a rollout, in no particular order."""
        yield from self._rollouts.get(rollout_id, {}).items()


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else min(one, other)


def _shared_reason(deferral: DeferDispatch) -> str:
    if deferral.gate is Gate.HOST_EDGE:
        return _HOST_EDGE
    own = f"host {deferral.host} is "
    if deferral.gate is Gate.OPERATOR_HOLD and deferral.reason.startswith(own):
        # What follows is said by an operator or by a device, and is another for each host.
        return _DEVICE if deferral.reason.startswith(f"{own}locked") else _OWN_HOLD
    return deferral.reason
