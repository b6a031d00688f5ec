"""The decisions of the planner. Data; the control-plane engine carries them out and logs them.

Source: docs/spec/planner.md, Plan actions.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId


class Gate(WordEnum):
    """The gates that can hold a dispatch, in the order of evaluation. The values are those of the wire."""

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
    """The refusal of a gate, with its reason, for operators.

    reason: changes only when the cause of the wait does, so that a change of it can be logged.
    detail: current numbers and states, for `explain`. until: the earliest time at which the answer may change by
    itself; `None`: never, or not before something else happens. Both are ignored in comparisons.
    """

    gate: Gate
    reason: str
    detail: str = field(default="", eq=False)
    until: datetime | None = field(default=None, eq=False)


@frozen
@checked
class OpenRollout:
    """Open the rollout that the verified manifest of the channel names: it has no record yet."""

    rollout_id: RolloutId
    channel: str
    target_ref: str


@frozen
@checked
class QueueDispatch:
    """Dispatch `target_closure` to `host`: no gate holds it."""

    host: str
    rollout_id: RolloutId
    target_closure: str
    soak_due_at: datetime
    attempt: int = 1


@frozen
@checked
class DeferDispatch:
    """Hold `host`. gate: the first one that does."""

    host: str
    rollout_id: RolloutId
    gate: Gate
    reason: str


@frozen
@checked
class WithdrawDispatch:
    """Remove the dispatch of `host` from the queue: it was not acknowledged, and `gate` holds it now."""

    host: str
    rollout_id: RolloutId
    gate: Gate
    reason: str


PlanAction: TypeAlias = OpenRollout | QueueDispatch | DeferDispatch | WithdrawDispatch
