"""The shipped state machines: they hold as they are, and a check that fails prints what brings it back."""

import re

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import PlanAction, QueueDispatch
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_testing.machines import (
    HostMachine,
    RolloutMachine,
    SmallFleetMachine,
)
from nixfleet_testing.machines.script import ScriptedMachine

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=12,
    phases=(Phase.generate, Phase.shrink),
    deadline=None,
    derandomize=True,
    database=None,
)


class NoHostSoaks(HostMachine):
    """Wrong on purpose."""

    def check_record(self, record: HostRolloutState) -> None:
        assert record.state is not HostState.SOAKING


@pytest.mark.parametrize("machine", [HostMachine, RolloutMachine, SmallFleetMachine])
def test_a_machine_as_it_is_finds_nothing(machine: type[ScriptedMachine]) -> None:
    """The production code stands up to the checks that are built in."""
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=30))


class NoHostReportsAProbe(HostMachine):
    """Wrong on purpose."""

    def check_record(self, record: HostRolloutState) -> None:
        assert not record.probes


class NoHostIsDispatched(SmallFleetMachine):
    """Wrong on purpose."""

    def check_plan(self, view: FleetView, actions: tuple[PlanAction, ...]) -> None:
        assert [each.host for each in actions if isinstance(each, QueueDispatch)] == []


@pytest.mark.parametrize(
    ("machine", "calls"), [(NoHostSoaks, 3), (NoHostReportsAProbe, 4), (NoHostIsDispatched, 3)]
)
def test_a_failing_check_prints_the_shortest_history_that_fails_again_when_pasted(
    machine: type[ScriptedMachine], calls: int
) -> None:
    """The script in the failure's notes, run by itself, fails at the same check."""
    with pytest.raises(AssertionError) as failure:
        run_state_machine_as_test(machine, settings=SETTINGS)
    script = script_in("\n".join(failure.value.__notes__))
    assert script.count("\nmachine.") == calls

    script = re.sub(r"^from \S*test_machines import", "# at hand: ", script, flags=re.MULTILINE)
    with pytest.raises(AssertionError) as again:
        exec(script, {machine.__name__: machine})
    assert str(again.value) == str(failure.value)


def script_in(notes: str) -> str:
    after = notes.split("Paste this to see it again:\n\n", 1)[1]
    return after.split("\n\n", 1)[0]
