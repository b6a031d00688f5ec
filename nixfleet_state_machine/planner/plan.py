"""The plan: which rollouts open, which hosts are dispatched now, and why the others wait. Computed in two ways.

`plan_next` evaluates everything and does not modify the view. `replan` evaluates what changed since its last call; an
engine calls it after each input. The caller carries the actions out.
Source: docs/spec/planner.md, Interface.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime

from nixfleet_proto.checked import require_arguments
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import GateBlock, PlanAction
from nixfleet_state_machine.planner.decision import answer, rollouts_to_open, withdrawals
from nixfleet_state_machine.planner.explanation import with_holding_hosts
from nixfleet_state_machine.planner.gates import (
    Planning,
    Quarantines,
    all_blocks,
    first_block,
    gate_host_edge,
    gate_quarantine,
    host_hold_block,
)
from nixfleet_state_machine.planner.index.changes import Changes
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.lanes import Lane, LaneKey
from nixfleet_state_machine.planner.lane_walk import Walk, budgets_of

# The closures themselves are not looked at: `replan` is called after every input.
_QUARANTINES = Mapping[str, Set[object]]
_NO_AUTHORS: FrozenMap[RolloutId, str] = FrozenMap()


def plan_next(view: FleetView, quarantines: Quarantines, now: datetime) -> tuple[PlanAction, ...]:
    """Return every decision that is due: rollouts to open, dispatches to withdraw, and an action per waiting host.

    In this order; by channel, then by rollout id and host name. Does not modify the view.
    quarantines: closures by channel. now: aware UTC.
    Raises: InvalidValue.
    """
    _require_arguments("plan_next", view, quarantines, now)
    planning = Planning(view, quarantines)
    return (
        *rollouts_to_open(view, view.offers),
        *withdrawals(planning, _all_handed_out(view)),
        *_answers(planning, now),
    )


def replan(view: FleetView, quarantines: Quarantines, now: datetime) -> tuple[PlanAction, ...]:
    """Return what `plan_next` would, without deferrals that equal the last ones of the same hosts.

    The caller carries all actions out before the next call. quarantines: as at the last call, except for the
    closures that were reported by `FleetView.quarantine_changed` since. now: aware UTC.
    Raises: InvalidValue.
    """
    # Asked after every fact: nearly always they are as they should be.
    if (
        type(view) is not FleetView
        or type(now) is not datetime
        or now.tzinfo is None
        or not isinstance(quarantines, dict)
        or not all(type(closures) is frozenset for closures in quarantines.values())
    ):
        _require_arguments("replan", view, quarantines, now)
    if not view.has_changes:
        return ()
    planning = Planning(view, quarantines)
    changes = view.take_changes()
    # Lanes are walked after every host is in its lane.
    placed = tuple(_placed(planning, changes))
    lanes = tuple(_changed_lanes(view, changes))
    return (
        *rollouts_to_open(view, changes.channels),
        *withdrawals(planning, _handed_out(view, changes)),
        *_walked(planning, placed, lanes, now),
    )


def _require_arguments(function: str, view: object, quarantines: object, now: object) -> None:
    require_arguments(
        function,
        view=(view, FleetView),
        quarantines=(quarantines, _QUARANTINES),
        now=(now, datetime),
    )


def _walked(
    planning: Planning, placed: Sequence[tuple[Lane, str]], lanes: Sequence[Lane], now: datetime
) -> Iterator[PlanAction]:
    if not placed and not lanes:
        return
    walk = Walk(planning, now)
    for lane, host in placed:
        walk.consider_host(lane, host)
    for lane in lanes:
        walk.consider(lane)
    yield from walk.answers()


def explain(
    view: FleetView,
    quarantines: Quarantines,
    hostname: str,
    authors: Mapping[RolloutId, str] = _NO_AUTHORS,
) -> Mapping[RolloutId, tuple[GateBlock, ...]]:
    """Return all gates that hold `hostname`, for each rollout that it waits in. O(hosts).

    The detail of a block names up to five of the hosts that its gate waits for.
    authors: of the manifests that name one; an author is not named as someone who may approve.

    Raises: UnknownHost, for a host that no open rollout names. InvalidValue.
    """
    require_arguments(
        "explain",
        view=(view, FleetView),
        quarantines=(quarantines, _QUARANTINES),
        hostname=(hostname, str),
    )
    view.require_host(hostname)
    planning = Planning(view, quarantines)
    return {
        rollout_id: tuple(
            with_holding_hosts(planning, rollout_id, hostname, block, authors.get(rollout_id))
            for block in all_blocks(planning, rollout_id, hostname)
        )
        for rollout_id in view.served_rollouts()
        if view.is_waiting(rollout_id, hostname)
    }


def _all_handed_out(view: FleetView) -> Iterator[tuple[RolloutId, str]]:
    for rollout_id in sorted(view.rollouts):
        for host in view.queued_of(rollout_id):
            if view.is_handed_out(rollout_id, host):
                yield rollout_id, host


def _answers(planning: Planning, now: datetime) -> Iterator[PlanAction]:
    view = planning.view
    for rollout_id in view.served_rollouts():
        for record in view.hosts_of(rollout_id):
            if view.is_waiting(rollout_id, record.hostname):
                block = first_block(planning, rollout_id, record.hostname)
                yield answer(planning, rollout_id, record.hostname, block, now)


def _placed(planning: Planning, changes: Changes) -> Iterator[tuple[Lane, str]]:
    """Move each changed host to its lane; yield those that wait, with their lanes."""
    view = planning.view
    for rollout_id, hosts in changes.hosts.items():
        # Sorted, so that each is inserted at the end of its lane.
        for host in sorted(hosts):
            if view.is_waiting(rollout_id, host):
                yield view.lanes.place(rollout_id, host, _key(planning, rollout_id, host)), host
            else:
                view.lanes.remove(rollout_id, host)


def _key(planning: Planning, rollout_id: RolloutId, host: str) -> LaneKey:
    terms = planning.view.terms(rollout_id)
    snag = (
        gate_quarantine(planning, rollout_id, host)
        or host_hold_block(planning, host)
        or gate_host_edge(planning, rollout_id, host)
    )
    budgets = () if snag else terms.budgets_of(host)
    group = planning.view.group_of(terms.channel, host)
    has_slots = bool(budgets) and planning.view.has_slots(rollout_id, host)
    return LaneKey(terms.wave_of.get(host), snag, budgets, group, has_slots)


def _changed_lanes(view: FleetView, changes: Changes) -> Iterator[Lane]:
    for rollout_id in view.served_rollouts():
        free = view.lanes.free(rollout_id)
        if rollout_id in changes.rollouts:
            yield from view.lanes.snagged(rollout_id)
            yield from free
        elif rollout_id in changes.earlier_waves:
            yield from free
        else:
            yield from (lane for lane in free if _has_any(view, lane, changes.budgets))


def _has_any(view: FleetView, lane: Lane, budgets: Set[str]) -> bool:
    return any(budget.name in budgets for budget in budgets_of(view, lane))


def _handed_out(view: FleetView, changes: Changes) -> list[tuple[RolloutId, str]]:
    changed_hosts = ((id_, host) for id_, hosts in changes.hosts.items() for host in hosts)
    queued = {each for each in changed_hosts if view.is_queued(*each)}
    queued |= {(id_, host) for id_ in changes.rollouts for host in view.queued_of(id_)}
    return sorted(each for each in queued if view.is_handed_out(*each))
