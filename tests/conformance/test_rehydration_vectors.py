"""Restoring a stored host record asks for what was recorded."""

from nixfleet_state_machine import HostState
from nixfleet_testing.conformance.host import (
    check_rehydration,
    read_rehydration_vector,
)
from tests.conformance.recorded import differences, recorded


def test_restoring_a_record_in_each_state_asks_for_what_was_recorded() -> None:
    """One record per state, seven in all: Pending asks for nothing, the others for a probe reset."""
    vectors = recorded("rehydration_vectors", read_rehydration_vector)

    assert differences(map(check_rehydration, vectors)) == []
    assert sorted(vector.id for vector in vectors) == sorted(state.value for state in HostState)
    assert len(vectors) == 7


def test_restoring_without_any_effect_is_a_difference() -> None:
    """A restore that asks for nothing is reported for each state but Pending."""
    vectors = recorded("rehydration_vectors", read_rehydration_vector)
    found = differences(check_rehydration(vector, lambda _: ()) for vector in vectors)

    assert {difference.path for difference in found} == {"effects.LocalResetProbeCache"}
    assert len(found) == 6
