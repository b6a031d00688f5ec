"""Bugs planted in what operators decide about a rollout by hand.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every fourth seed has aborts.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_agent.engine import engine, home
from nixfleet_agent.messages.inputs import HomeLooked
from nixfleet_agent.probes.runner import PASSED
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


def never_misses_home(patch: pytest.MonkeyPatch) -> None:
    """A host that was cut off by its release takes its silence for nothing."""
    patch.setattr(home, "failed", lambda expected, found: PASSED)


def takes_every_silence_for_a_cut(patch: pytest.MonkeyPatch) -> None:
    """The second address is not looked at: an outage of the control plane sends hosts back."""
    judged = home.home_outcome

    def suspicious(check: Any, rollout: Any, looked: HomeLooked, now: datetime) -> Any:
        return judged(check, rollout, evolve(looked, second_answers=False), now)

    patch.setattr(engine, "home_outcome", suspicious)


PLANTED_IN_STEERING: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        takes_an_abort_for_a_halt,
        never_misses_home,
        takes_every_silence_for_a_cut,
    )
}

FOUND_BY_IN_STEERING: Final[Mapping[str, int]] = {
    "takes_an_abort_for_a_halt": 3,
    "never_misses_home": 19,
    "takes_every_silence_for_a_cut": 7,
}
"""As `planted.FOUND_BY`."""
