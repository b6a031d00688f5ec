"""Our appliers, and that of the example, keep the contracts of appliers; the contracts leave no effect out."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from examples.own_applier import World, apply
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine.host.effect import AgentEffect, ControlPlaneEffect
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.contracts import agent_applier, control_plane_applier
from nixfleet_testing.contracts.agent_applier import AgentApplierContract, AgentWorld
from nixfleet_testing.contracts.control_plane_applier import (
    ControlPlaneApplierContract,
    ControlPlaneWorld,
)
from nixfleet_testing.contracts.histories import HISTORIES, PRIOR, local_steps, remote_steps
from tests.contracts.our_worlds import OurAgentWorld, OurControlPlaneWorld


class TestAgentApplier(AgentApplierContract):
    """The applier of our agent, with its journal."""

    def make_world(self, record: HostRolloutState, directory: Path) -> AgentWorld:
        """Return a journal in `directory`, and a machine that is a name."""
        return OurAgentWorld(record, directory)


class ExampleWorld(AgentWorld):
    """The world of the example, as it is."""

    def __init__(self) -> None:
        self._world = World(running=PRIOR)

    def apply(self, effect: AgentEffect) -> None:
        apply(effect, self._world)

    def facts(self) -> Sequence[AgentEvent]:
        return self._world.sent

    def running(self) -> str:
        return self._world.running


class TestOwnApplierExample(AgentApplierContract):
    """The applier of `examples/own_applier.py`, which does everything at once."""

    def make_world(self, record: HostRolloutState, directory: Path) -> AgentWorld:
        """Return the example's world."""
        return ExampleWorld()


class TestControlPlaneApplier(ControlPlaneApplierContract):
    """The applier of our control plane, with its store."""

    def make_world(self, directory: Path) -> ControlPlaneWorld:
        """Return a store in `directory` that knows the rollout."""
        return OurControlPlaneWorld(directory)


def test_a_new_kind_of_effect_must_be_in_the_contract() -> None:
    """Every effect that either side can be given is given to its applier."""
    assert {type(effect) for effect in agent_applier.ONE_OF_EACH} == set(get_args(AgentEffect))
    assert {type(effect) for effect in control_plane_applier.ONE_OF_EACH} == set(
        get_args(ControlPlaneEffect)
    )


def test_a_new_kind_of_fact_must_be_in_a_history() -> None:
    """Every kind of fact occurs in the lives that the contracts are tried with."""
    facts = [fact for life in HISTORIES.values() for fact in life]

    assert {type(fact) for fact in facts} == set(get_args(AgentEvent))


def test_both_sides_come_to_the_same_record_at_each_step() -> None:
    """The fixed lives are legal, and host and mirror agree on them."""
    for life in HISTORIES.values():
        assert [s.record for s in local_steps(life)] == [s.record for s in remote_steps(life)]
