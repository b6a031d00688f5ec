"""`due_rollout_events`: what follows for a rollout from how its hosts stand."""

import pytest

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.progress import due_rollout_events, empty_waves
from nixfleet_state_machine.rollout.event import RolloutEvent, RolloutTerminal, WaveAdvanced
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_state_machine.undo import UndoLog
from tests.planner.builders import NOW, put, rollout_of, terms_of, view_of

TERMS = terms_of(waves=(("web-1", "web-2"), ("web-3",)))
ID = TERMS.rollout_id


def _due(view: FleetView) -> tuple[RolloutEvent, ...]:
    return due_rollout_events(view, ID, NOW)


@pytest.mark.parametrize("state", [HostState.CONVERGED, HostState.DEFERRED])
def test_wave_whose_hosts_are_all_done_advances(state: HostState) -> None:
    """Converged or Deferred is enough for the next wave to begin."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=state)

    assert _due(view) == (WaveAdvanced(ID, 0, 1, NOW),)


@pytest.mark.parametrize("state", sorted({*HostState} - {HostState.CONVERGED, HostState.DEFERRED}))
def test_wave_with_a_host_that_is_not_done_stays(state: HostState) -> None:
    """One host that is not done keeps its wave from advancing, Soaking included."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=state)

    assert _due(view) == ()


def test_wave_without_its_excused_hosts_advances() -> None:
    """An excused host no longer counts; the rest of its wave goes on without it."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.REVERTED)
    view.set_rollout(rollout_of(TERMS, excused={"web-2"}))

    assert _due(view) == (WaveAdvanced(ID, 0, 1, NOW),)


def test_wave_whose_hosts_are_all_excused_advances() -> None:
    """A wave of which nobody counts any more is no obstacle, and the next one is looked at as well."""
    view = view_of(TERMS)
    put(view, TERMS, web_3=HostState.SOAKING)
    view.set_rollout(rollout_of(TERMS, excused={"web-1", "web-2"}))

    assert _due(view) == (WaveAdvanced(ID, 0, 1, NOW), WaveAdvanced(ID, 1, 1, NOW))


def test_waves_that_are_all_done_advance_one_after_the_other() -> None:
    """A control plane that hears late goes through every wave, those of a single host too."""
    terms = terms_of(waves=(("web-1",), ("web-2",), ("web-3",), ("web-4",)))
    view = view_of(terms)
    put(view, terms, **dict.fromkeys(("web_1", "web_2", "web_3"), HostState.CONVERGED))

    assert _due(view) == tuple(WaveAdvanced(ID, wave, wave + 1, NOW) for wave in range(3))


def test_wave_that_never_had_a_host_stays() -> None:
    """An empty wave is never promoted past by itself."""
    terms = terms_of(waves=((), ("web-3",)))
    view = view_of(terms)
    put(view, terms, web_3=HostState.CONVERGED)

    assert not any(isinstance(event, WaveAdvanced) for event in _due(view))


def test_last_wave_that_never_had_a_host_does_not_close() -> None:
    """An empty wave has not settled either."""
    terms = terms_of(waves=(("web-1",),), soak_minutes=(0, 0))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, wave=1))

    assert _due(view) == ()


def test_wave_with_a_host_that_has_no_record_stays() -> None:
    """A host that the terms name counts, also while nothing is known of it."""
    view = FleetView(UndoLog())
    view.open(rollout_of(TERMS), TERMS)
    put(view, TERMS, web_1=HostState.CONVERGED)

    assert _due(view) == ()


@pytest.mark.parametrize("state", [HostState.SOAKING, HostState.DEFERRED])
def test_last_wave_whose_hosts_have_settled_closes(state: HostState) -> None:
    """The last wave need only run its closures for the rollout to be Converging."""
    view = view_of(TERMS)
    view.set_rollout(rollout_of(TERMS, wave=1))
    put(view, TERMS, web_3=state)

    assert _due(view) == (WaveAdvanced(ID, 1, 1, NOW),)


def test_last_wave_of_a_rollout_that_is_converging_does_not_close_again() -> None:
    """That the last wave has settled is said once."""
    view = view_of(TERMS)
    view.set_rollout(rollout_of(TERMS, RolloutState.CONVERGING, wave=1))
    put(view, TERMS, web_3=HostState.SOAKING)

    assert _due(view) == ()


def test_rollout_whose_hosts_are_all_converged_ends() -> None:
    """Every host Converged ends the rollout; a Deferred one does not, until it rebooted."""
    view = view_of(TERMS)
    view.set_rollout(rollout_of(TERMS, RolloutState.CONVERGING, wave=1))
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.DEFERRED, web_3=HostState.CONVERGED)
    assert _due(view) == ()
    put(view, TERMS, web_2=HostState.CONVERGED)

    assert _due(view) == (RolloutTerminal(ID, NOW),)


def test_rollout_whose_hosts_are_all_converged_or_excused_ends() -> None:
    """Excused hosts do not keep a rollout from its end."""
    view = view_of(TERMS)
    excused = rollout_of(TERMS, RolloutState.CONVERGING, wave=1, excused={"web-2"})
    view.set_rollout(excused)
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.FAILED, web_3=HostState.CONVERGED)

    assert _due(view) == (RolloutTerminal(ID, NOW),)


def test_rollout_with_a_host_in_no_wave_does_not_end_without_it() -> None:
    """A host that no wave lists still belongs to the rollout."""
    terms = terms_of(waves=(("web-1",),), unstaged=("web-9",))
    view = view_of(terms)
    put(view, terms, web_1=HostState.CONVERGED)

    assert _due(view) == (WaveAdvanced(ID, 0, 0, NOW),)


def test_rollout_that_got_everything_done_at_once_hears_it_all_in_order() -> None:
    """Applied in order, all that is due brings the rollout to its end, and then nothing is."""
    view = view_of(TERMS)
    put(
        view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED
    )
    events = _due(view)
    for event in events:
        record, _ = step_rollout(view.rollouts[ID], event, NOW)
        view.set_rollout(record)

    assert events == (
        WaveAdvanced(ID, 0, 1, NOW),
        WaveAdvanced(ID, 1, 1, NOW),
        RolloutTerminal(ID, NOW),
    )
    assert view.rollouts[ID].state is RolloutState.TERMINAL
    assert _due(view) == ()


@pytest.mark.parametrize(
    "state", sorted({*RolloutState} - {RolloutState.ACTIVE, RolloutState.CONVERGING})
)
def test_rollout_that_does_not_run_hears_nothing(state: RolloutState) -> None:
    """Only an Active or Converging rollout moves by its hosts."""
    view = view_of(TERMS)
    put(
        view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED
    )
    view.set_rollout(rollout_of(TERMS, state))

    assert _due(view) == ()


def test_terms_with_a_wave_that_has_no_host_are_found_out() -> None:
    """Waves without a host are named by their numbers, so that such a manifest can be refused."""
    assert empty_waves(terms_of(waves=(("web-1",), (), ("web-2",)), soak_minutes=(0, 0, 0, 0))) == (
        1,
        3,
    )
    assert empty_waves(TERMS) == ()
