"""Waiting for what a control plane's log will say. Processes tell no event loop of ours when they have written."""

from collections.abc import Callable

import anyio

from nixfleet_control_plane.engine.state import State
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.rollout.state import RolloutState
from tests.faults.witness import Audit

PATIENCE_SECONDS = 120.0
LOOKED_EVERY_SECONDS = 0.02


async def until(audit: Audit, is_so: Callable[[State], bool]) -> None:
    """Read on until the log comes to a state in which it is so. Raises: TimeoutError."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not is_so(audit.state):
            await anyio.sleep(LOOKED_EVERY_SECONDS)
            audit.read_on()


async def more_facts(audit: Audit, count: int) -> None:
    """Read on until the log has `count` facts more. Raises: TimeoutError."""
    wanted = len(audit.facts) + count
    await until(audit, lambda _: len(audit.facts) >= wanted)


async def terminal(audit: Audit, rollout_id: RolloutId) -> None:
    """Read on until a rollout is Terminal. Raises: TimeoutError."""

    def is_terminal(state: State) -> bool:
        record = state.view.rollouts.get(rollout_id)
        return record is not None and record.state is RolloutState.TERMINAL

    await until(audit, is_terminal)
