"""Converged is terminal: nothing moves the host in this rollout any more."""

import pytest

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine import HostState, IllegalForState, rehydration_effects
from nixfleet_state_machine.host.effect import LocalResetProbeCache
from tests.builders import ROLLOUT, all_facts_but, converged_host, lived, told


@pytest.mark.parametrize("fact", all_facts_but())
def test_every_fact_is_refused_on_both_sides(fact: AgentEvent) -> None:
    """A host that is Converged takes no further fact, whoever lived it or was told."""
    with pytest.raises(IllegalForState):
        told(converged_host(), fact)
    with pytest.raises(IllegalForState):
        lived(converged_host(), fact)


def test_restoring_the_record_resets_its_probes() -> None:
    """An agent that comes back to a Converged record forgets what its probes said."""
    assert converged_host().state is HostState.CONVERGED
    assert rehydration_effects(converged_host()) == (LocalResetProbeCache(ROLLOUT),)
