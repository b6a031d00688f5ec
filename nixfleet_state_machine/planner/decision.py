"""Single decisions, as actions, of which `plan_next` and `replan` are composed. Pure.

Source: docs/spec/planner.md, Plan actions; docs/spec/planner.md, Withdrawal.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    GateBlock,
    OpenRollout,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.gates import Planning, withdrawing_block
from nixfleet_state_machine.planner.index.fleet_view import FleetView


def rollouts_to_open(view: FleetView, channels: Iterable[str]) -> Iterator[OpenRollout]:
    """Yield the rollouts that are named by manifests of `channels` and have no record."""
    for channel in sorted(channels):
        terms = view.offers.get(channel)
        if terms is not None and terms.rollout_id not in view.rollouts:
            yield OpenRollout(terms.rollout_id, channel, terms.target_ref)


def withdrawals(
    planning: Planning, handed_out: Iterable[tuple[RolloutId, str]]
) -> Iterator[WithdrawDispatch]:
    """Yield the dispatches of `handed_out` that a withdrawing gate holds now."""
    for rollout_id, host in handed_out:
        block = withdrawing_block(planning, rollout_id, host)
        if block is not None:
            yield WithdrawDispatch(host, rollout_id, block.gate, block.reason)


def answer(
    planning: Planning, rollout_id: RolloutId, host: str, block: GateBlock | None, now: datetime
) -> QueueDispatch | DeferDispatch:
    """Return the action for a waiting host. block: what holds it; `None`: it is dispatched and takes its slots."""
    if block is not None:
        return DeferDispatch(host, rollout_id, block.gate, block.reason)
    view = planning.view
    terms = view.terms(rollout_id)
    planning.note_dispatch(rollout_id, host)
    attempt = view.rollouts[rollout_id].attempt_of(host)
    soak_due_at = _soak_due_at(view, rollout_id, host, now)
    return QueueDispatch(host, rollout_id, terms.targets[host], soak_due_at, attempt)


def _soak_due_at(view: FleetView, rollout_id: RolloutId, host: str, now: datetime) -> datetime:
    """Return the time in the record, if an earlier dispatch set one; otherwise now plus the soak of the host's wave."""
    record = view.host(rollout_id, host)
    if record is not None and record.soak_due_at is not None:
        return record.soak_due_at
    terms = view.terms(rollout_id)
    return now + timedelta(minutes=terms.wave_soak_minutes[terms.wave_of[host]])
