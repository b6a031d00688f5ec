"""What must hold of guards. Written from the specification, not from the planner's code.

Source: docs/spec/guards.md.
"""

from collections.abc import Iterator

from nixfleet_proto.steering.guards import APPROVALS, BAKE
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutRecord
from nixfleet_testing.explore.bounds import CHECK, Bounds
from nixfleet_testing.explore.inputs import (
    Answer,
    BakeEnds,
    Input,
    Judge,
    answers,
    is_awaiting_approval,
    is_baking,
)
from nixfleet_testing.explore.world import ControlPlane


def begun_unasked(
    bounds: Bounds, was: RolloutRecord, now: RolloutRecord, input: Input
) -> Iterator[str]:
    """Yield each wave that began, and a guard of which was satisfied neither before nor by this very input."""
    for wave in range(was.current_wave + 1, now.current_wave + 1):
        approvals, bake, check = (
            was.guard_tally(wave, name) for name in (APPROVALS, BAKE, CHECK.name)
        )
        approves = isinstance(input, Judge) and input.outcome is Outcome.PASS
        if bounds.guarded and not approves and (approvals is None or not approvals.passed_by):
            yield f"{now.rollout_id} began wave {wave}, which nobody approved"
        if bounds.bakes and bake is None and not isinstance(input, BakeEnds):
            yield f"{now.rollout_id} began wave {wave} before its bake was over"
        passes = isinstance(input, Answer) and input.outcome is Outcome.PASS
        in_a_row = (0 if check is None else check.passes) + passes
        if bounds.checked and in_a_row < CHECK.passes:
            yield f"{now.rollout_id} began wave {wave}, which passed {in_a_row} times in a row"


def refused_to_hear(
    was: RolloutRecord, input: BakeEnds | Answer, after: ControlPlane
) -> str | None:
    """Return how a rollout stands against what was just said of its next wave; `None`: it follows it."""
    now, wave = after.rollouts[input.release], was.current_wave + 1
    if isinstance(input, Answer):
        failed = input.outcome is Outcome.FAIL
        return (
            f"{now.rollout_id} failed its check, and is {now.state}"
            if (failed and not now.state.is_halted)
            else None
        )
    is_noted = now.current_wave >= wave or now.guard_tally(wave, BAKE) is not None
    return None if is_noted else f"the bake of {now.rollout_id} is over, and nothing says so"


def waits_for_guards(bounds: Bounds, record: RolloutRecord) -> bool:
    """Return whether the next wave of a rollout waits for an operator, for its bake or for its judge."""
    is_asked = bounds.guarded and is_awaiting_approval(bounds, record)
    return is_asked or is_baking(bounds, record) or bool(answers(bounds, record))
