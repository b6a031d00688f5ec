"""Bugs planted in the pace of budgets.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every fifth seed has a pace.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.engine import rollout_course
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history import loading
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner import passing_time
from nixfleet_state_machine.planner.index import rollout_view
from nixfleet_state_machine.planner.pace import budget_use
from nixfleet_state_machine.planner.pace.ramp import RampStep
from tests.simulation.planted import Plant


def begins_with_all_slots(patch: pytest.MonkeyPatch) -> None:
    """A ramp is read, and all slots are there at once."""
    patch.setattr(budget_use, "ramp_step", lambda _ramp, limit, _converged: RampStep(limit, None))


def grows_with_deferred_hosts(patch: pytest.MonkeyPatch) -> None:
    """A host that waits for its reboot counts as converged, for the ramp."""
    counts = rollout_view._counts

    def hasty(state: HostState | None, *facts: Any) -> Any:
        found = counts(state, *facts)
        return found._replace(has_converged=found.has_converged or state is HostState.DEFERRED)

    patch.setattr(rollout_view, "_counts", hasty)


def gives_slots_back_too_early(patch: pytest.MonkeyPatch) -> None:
    """A minute has thirty seconds."""
    patch.setattr(passing_time, "MINUTE", timedelta(seconds=30))


def gives_no_slot_back(patch: pytest.MonkeyPatch) -> None:
    """A minute has no end."""
    patch.setattr(rollout_course, "slots_due", lambda *_: ())


def gives_slots_back_with_a_withdrawal(patch: pytest.MonkeyPatch) -> None:
    """A dispatch that is withdrawn is forgotten by the minute, although the host may have it."""
    remove_dispatch = State.remove_dispatch

    def forgetful(self: Any, commit: Any, key: Any) -> None:
        was_handed_out = self.view.is_handed_out(*key)
        remove_dispatch(self, commit, key)
        if was_handed_out:
            for budget in self.view.terms(key[0]).minute_names_of(key[1]):
                first = self.view.beginnings.first(budget)
                if first is not None:
                    self.view.return_slots(budget, first)

    patch.setattr(State, "remove_dispatch", forgetful)


def forgets_beginnings_in_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A restarted control plane begins as if nobody had begun in the last minute."""
    load_views = loading._load_views
    patch.setattr(
        loading, "_load_views", lambda state, found: load_views(state, evolve(found, beginnings=()))
    )


PLANTED_IN_PACE: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        begins_with_all_slots,
        grows_with_deferred_hosts,
        gives_slots_back_too_early,
        gives_no_slot_back,
        gives_slots_back_with_a_withdrawal,
        forgets_beginnings_in_a_restart,
    )
}

FOUND_BY_IN_PACE: Final[Mapping[str, int]] = {
    "begins_with_all_slots": 34,
    "grows_with_deferred_hosts": 219,
    "gives_slots_back_too_early": 9,
    "gives_no_slot_back": 9,
    "gives_slots_back_with_a_withdrawal": 29,
    "forgets_beginnings_in_a_restart": 29,
}
"""As `planted.FOUND_BY`."""
