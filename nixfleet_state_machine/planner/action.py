"""What the planner can decide. Data; the control-plane engine carries it out and logs it.

Source: docs/spec/planner.md, Plan actions.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId


class Gate(WordEnum):
    """What can hold a dispatch; the values are the wire's. In the order they are asked."""

    QUARANTINE = "quarantine"
    ROLLOUT_HALTED = "rollout-halted"
    OPERATOR_HOLD = "operator-hold"
    CHANNEL_EDGES = "channel-edges"
    WAVE_PROMOTION = "wave-promotion"
    WAVE_PROMOTION_HOST_UNSTAGED = "wave-promotion-host-unstaged"
    HOST_EDGE = "host-edge"
    DISRUPTION_BUDGET = "disruption-budget"
    COMPLIANCE_WAVE = "compliance-wave"
    PROBE_TOPOLOGY = "probe-topology"


@frozen
@checked
class GateBlock:
    """A gate that holds, and why, in words an operator understands.

    reason: changes only when what the host waits for does, so it can be logged when it changes.
    detail: how things stand right now, for `explain`; two blocks that differ in it alone are equal.
    """

    gate: Gate
    reason: str
    detail: str = field(default="", eq=False)


@frozen
@checked
class OpenRollout:
    """The channel's verified manifest names a rollout that has no record yet."""

    rollout_id: RolloutId
    channel: str
    target_ref: str


@frozen
@checked
class QueueDispatch:
    """No gate holds `host`: hand it `target_closure`."""

    host: str
    rollout_id: RolloutId
    target_closure: str
    soak_due_at: datetime


@frozen
@checked
class DeferDispatch:
    """`gate` is the first that holds `host`."""

    host: str
    rollout_id: RolloutId
    gate: Gate
    reason: str


@frozen
@checked
class WithdrawDispatch:
    """`host` has a dispatch that was queued and not acknowledged, and must not get it any more."""

    host: str
    rollout_id: RolloutId
    gate: Gate
    reason: str


PlanAction: TypeAlias = OpenRollout | QueueDispatch | DeferDispatch | WithdrawDispatch
