"""Reverted is terminal: nothing moves the host in this rollout any more."""

import pytest

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine import HostState, IllegalForState, rehydration_effects
from nixfleet_state_machine.host.effect import LocalResetProbeCache
from tests.builders import ROLLOUT, all_facts_but, lived, reverted_host, told


@pytest.mark.parametrize("fact", all_facts_but())
def test_every_fact_is_refused_on_both_sides(fact: AgentEvent) -> None:
    """A host that is Reverted takes no further fact, whoever lived it or was told."""
    with pytest.raises(IllegalForState):
        told(reverted_host(), fact)
    with pytest.raises(IllegalForState):
        lived(reverted_host(), fact)


def test_restoring_the_record_resets_its_probes() -> None:
    """An agent that comes back to a Reverted record forgets what its probes said."""
    assert reverted_host().state is HostState.REVERTED
    assert rehydration_effects(reverted_host()) == (LocalResetProbeCache(ROLLOUT),)
