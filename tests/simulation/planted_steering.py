"""Bugs planted in what operators decide about a rollout by hand.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every fourth seed has aborts.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.engine import entry_handlers
from nixfleet_state_machine.rollout.event import RolloutAborted, RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from tests.simulation.planted import Plant


def takes_an_abort_for_a_halt(patch: pytest.MonkeyPatch) -> None:
    """An aborted rollout is Failed, so that a clearance makes it go on."""

    def halted(record: RolloutRecord, event: RolloutEvent, now: datetime) -> Any:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, RolloutAborted) and after.state is RolloutState.ABORTED:
            after = evolve(after, state=RolloutState.FAILED)
        return after, effects

    patch.setattr(entry_handlers, "step_rollout", halted)


PLANTED_IN_STEERING: Final[Mapping[str, Plant]] = {
    plant.__name__: plant for plant in (takes_an_abort_for_a_halt,)
}

FOUND_BY_IN_STEERING: Final[Mapping[str, int]] = {
    "takes_an_abort_for_a_halt": 3,
}
"""As `planted.FOUND_BY`."""
