"""A fact that does not apply: it is logged with the rule it breaks, its number is used up, and the host goes on."""

import pytest
from attrs import evolve

from nixfleet_control_plane.engine.fact_intake import REFUSED_IN_A_ROW_MAX, REFUSED_MAX
from nixfleet_control_plane.engine.intake_limits import PROBES_MAX
from nixfleet_control_plane.messages.inputs import HostEvents
from nixfleet_control_plane.messages.log_entry import FactRefused, FactReported, IdentityForked
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    DispatchAck,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import EventRefused, EventsOutcome, ReplayFrom
from nixfleet_state_machine.host.state import HostState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.engines.scripted_host import ScriptedHost

ACK = DispatchAck("release-0", START, seq=1)
AGAIN = DispatchAck("release-0", START, seq=2)
STARTED = ActivationStarted(START, "directory", seq=3)


def test_a_refused_fact_is_in_the_log_with_the_rule_and_its_signature(
    control_plane: ScriptedControlPlane,
) -> None:
    """The log says who said what, when it did not apply, and why it was not believed."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    envelope = AgentEventEnvelope("web-01", rollout_id, AGAIN, "ab" * 64)
    control_plane.ask(HostEvents("web-01", (envelope,)))

    (refused,) = control_plane.logged(FactRefused)
    assert (refused.host, refused.fact, refused.signature) == ("web-01", AGAIN, "ab" * 64)
    assert refused.reason.startswith("DispatchAck is not legal from Activating")


def test_the_numbers_after_a_refused_fact_are_accepted(control_plane: ScriptedControlPlane) -> None:
    """The agent goes on, so the next fact is no gap; the record is that of the accepted facts."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK, AGAIN)
    assert control_plane.hear("web-01", rollout_id, STARTED) == EventsOutcome(1)

    told = control_plane.publish("r2")
    control_plane.hear("web-01", told, ACK, evolve(STARTED, seq=2))
    likeness = evolve(
        control_plane.mirrored(told, "web-01"),
        rollout_id=rollout_id,
        target_closure="r1-web-01",
        last_event_seq=3,
    )
    assert control_plane.mirrored(rollout_id, "web-01") == likeness


def test_what_comes_after_a_refused_fact_in_a_batch_is_taken_but_not_answered_for(
    control_plane: ScriptedControlPlane,
) -> None:
    """The batch is in the log whole, as it was signed; the host hears of the first refusal and sends the rest again."""
    rollout_id = control_plane.publish("r1")
    outcome = control_plane.hear("web-01", rollout_id, ACK, AGAIN, STARTED)

    assert (outcome.accepted, isinstance(outcome.stopped_by, EventRefused)) == (1, True)
    assert [entry.fact for entry in control_plane.logged(FactReported)] == [ACK, STARTED]
    assert control_plane.hear("web-01", rollout_id, STARTED) == EventsOutcome(1)


def test_a_refused_fact_that_comes_again_is_answered_the_same(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host whose answer was lost hears the very same refusal, also after a restart, and no row is added."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    first = control_plane.hear("web-01", rollout_id, AGAIN)
    assert control_plane.hear("web-01", rollout_id, AGAIN) == first
    control_plane.hear("web-01", rollout_id, STARTED)
    control_plane.restart_control_plane()
    rows = len(control_plane.log())

    assert control_plane.hear("web-01", rollout_id, AGAIN) == first
    assert len(control_plane.log()) == rows


def test_a_gap_after_a_refused_fact_is_still_a_gap(control_plane: ScriptedControlPlane) -> None:
    """Only the refused number itself is passed over."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK, AGAIN)
    completed = ActivationCompleted("r1-web-01", 0, START, seq=4)

    assert control_plane.hear("web-01", rollout_id, completed).stopped_by == ReplayFrom(
        rollout_id, 3
    )


def test_a_replaced_disk_goes_on_after_the_refused_number(
    control_plane: ScriptedControlPlane,
) -> None:
    """The record that a heartbeat brings has the number: a new fact must not be taken for the refused one."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK, AGAIN)
    (record,) = control_plane.heartbeat("web-01", {}).bootstrap_rollouts

    assert (record.last_event_seq, record.state) == (2, HostState.ACTIVATING)
    assert control_plane.heartbeat("web-01", {str(rollout_id): 2}).bootstrap_rollouts == ()


def test_a_start_folds_refused_facts_into_the_cache_of_records(
    control_plane: ScriptedControlPlane,
) -> None:
    """Whatever of the log the cache has seen, the record comes out the same."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    control_plane.flush()
    control_plane.hear("web-01", rollout_id, AGAIN, STARTED)
    record = control_plane.mirrored(rollout_id, "web-01")
    control_plane.restart_control_plane()

    assert control_plane.mirrored(rollout_id, "web-01") == record
    assert control_plane.check_store().differences == ()


def test_what_is_refused_for_a_limit_counts_too(control_plane: ScriptedControlPlane) -> None:
    """A host that invents probes without end is held after a few rows."""
    rollout_id = soaking_with_all_probes(control_plane)
    for number in range(40):
        hear_probe(control_plane, rollout_id, f"another-{number}")
    assert len(control_plane.logged(FactRefused)) == REFUSED_IN_A_ROW_MAX
    (held,) = control_plane.logged(IdentityForked)
    assert "expected at most 256 probes" in held.reason


def test_a_fact_that_applies_in_between_does_not_hide_the_others(
    control_plane: ScriptedControlPlane,
) -> None:
    """One of eight is accepted; so many that do not apply in one rollout hold the host all the same."""
    rollout_id = soaking_with_all_probes(control_plane)
    for number in range(2 * REFUSED_MAX):
        hear_probe(control_plane, rollout_id, "alive-0" if number % 8 == 7 else f"another-{number}")
    assert len(control_plane.logged(FactRefused)) == REFUSED_MAX
    (held,) = control_plane.logged(IdentityForked)
    assert held.reason.startswith(f"{REFUSED_MAX} of its facts of {rollout_id} do not apply")


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_host_that_is_resumed_starts_anew(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """What was refused before is not counted again, also after a restart; the reasons are still answered."""
    rollout_id = control_plane.publish("r1")
    control_plane.hear("web-01", rollout_id, ACK)
    for seq in range(2, 12):
        control_plane.hear("web-01", rollout_id, evolve(AGAIN, seq=seq))
    assert "web-01" in control_plane.state.forked
    control_plane.resume("host:web-01")
    if restarts:
        control_plane.restart_control_plane()
    refused = control_plane.hear("web-01", rollout_id, evolve(AGAIN, seq=10))
    assert isinstance(refused.stopped_by, EventRefused)
    assert control_plane.hear("web-01", rollout_id, evolve(STARTED, seq=11)) == EventsOutcome(1)
    assert isinstance(control_plane.hear("web-01", rollout_id, AGAIN).stopped_by, EventRefused)
    assert "web-01" not in control_plane.state.forked
    assert control_plane.check_store().differences == ()

    for seq in range(12, 30):
        control_plane.hear("web-01", rollout_id, evolve(AGAIN, seq=seq))
    assert len(control_plane.logged(IdentityForked)) == 2
    assert control_plane.check_store().differences == ()


def soaking_with_all_probes(control_plane: ScriptedControlPlane) -> RolloutId:
    """Have web-01 soak, with as many probes in its record as fit."""
    rollout_id = control_plane.publish("r1")
    ScriptedHost(control_plane, rollout_id, "web-01").soak()
    for number in range(PROBES_MAX - 1):
        hear_probe(control_plane, rollout_id, f"alive-{number}")
    return rollout_id


def hear_probe(control_plane: ScriptedControlPlane, rollout_id: RolloutId, name: str) -> None:
    """Have web-01 report a probe, with the next number."""
    seq = control_plane.mirrored(rollout_id, "web-01").last_event_seq + 1
    at = control_plane.now
    result = ProbeResult(name, ProbeMode.OBSERVE, ProbeStatus.PASS, at, seq=seq)
    control_plane.hear("web-01", rollout_id, result)
