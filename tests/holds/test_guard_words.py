"""What is said of a wave that its guards hold: the reason of its hosts, whom they wait for, and how many hold it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.inputs import AbortRollout, ExplainHost, Explanation
from nixfleet_control_plane.messages.log_entry import Deferred
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_state_machine.planner.action import GateBlock
from nixfleet_state_machine.planner.guards.words import guards_line
from nixfleet_state_machine.rollout.state import RolloutState
from tests.control_plane.test_engine_guards import OPEN, TWO_APPROVE, Approved
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


def _block(fleet: Approved, host: str) -> GateBlock:
    (block,) = fleet.ask_for(Explanation, ExplainHost(host)).blocks[fleet.r1]
    return block


def test_a_wave_whose_turn_it_is_waits_for_its_guards_by_name(scratch: Path) -> None:
    """In the log, in the deferrals and when it is explained; before that it waits for the wave before."""
    fleet = Approved(scratch, OPEN, WaveGuards(30, Approvals(1, ("ada",))))
    assert _block(fleet, "web-02").reason == "wave 1 waits for wave 0"
    fleet.finish("web-01")

    reason = "wave 1 waits for its guards: bake, approvals"
    assert _block(fleet, "web-02").reason == reason
    given = {entry.action.host: entry.action.reason for entry in fleet.logged(Deferred)}
    assert (given["web-02"], given["web-03"]) == (reason, reason)
    rows = len(fleet.logged(Deferred))
    fleet.give(fleet.approval("ada"))
    fleet.tick()
    assert len(fleet.logged(Deferred)) == rows
    fleet.check_restart()


def test_an_author_is_waited_for_in_no_words_after_a_clear(scratch: Path) -> None:
    """`explain` and the list of rollouts say the same."""
    layout = Layout(guards=(OPEN, evolve(TWO_APPROVE, bake_minutes=0)), author="ada")
    fleet = Approved(scratch, layout=layout)
    fleet.finish("web-01")
    fleet.give(fleet.approval("eve", Decision.DENY))
    fleet.wait(minutes=5)
    fleet.clear(fleet.r1)

    line = "0 of 2 approvals, waits for 2 of bob, eve"
    guarded = fleet.engine.guarded(fleet.r1)
    assert guarded is not None
    assert guards_line(guarded.guarded, guarded.declared, guarded.author) == line
    assert _block(fleet, "web-02").detail == f"wave 1 is guarded: {line}"


def test_an_aborted_rollout_waits_for_no_approval(scratch: Path) -> None:
    """No wave of it begins any more, so no guard holds one."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    assert fleet.engine.guards_open() == 1
    fleet.command(AbortRollout(fleet.r1, "ada", "it eats disks"))

    assert fleet.state_now() is RolloutState.ABORTED
    assert fleet.engine.guarded(fleet.r1) is None
    assert fleet.engine.guards_open() == 0
