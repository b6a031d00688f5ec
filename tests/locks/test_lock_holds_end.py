"""What ends, or does not end, the hold by a host's own lock on the control plane."""

from datetime import timedelta

import pytest

from nixfleet_control_plane.messages.inputs import AbortRollout, RelayWarrant
from nixfleet_control_plane.messages.key_ring import EnrolledHost
from nixfleet_proto.agent_event import DispatchAck, Postponed
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_state_machine.planner.holds.device import POSTPONED_MIN
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import OPERATOR_KEY, token_for
from tests.engines.scripted_host import ScriptedHost
from tests.locks.test_control_plane_locks import (
    LAPTOP,
    R1,
    fleet,
    laptop,
    lock_of,
    override,
    postpone,
)

__all__ = ["fleet"]
R2 = RolloutId("stable@r2")


def holiday(fleet: ScriptedControlPlane, rollout_id: RolloutId = R1) -> ScriptedHost:
    """web-01, whose user says "not now" for six days."""
    host = ScriptedHost(fleet, rollout_id, LAPTOP)
    postpone(host, minutes=60 * 24 * 6, reason="holiday")
    return host


def override_of(fleet: ScriptedControlPlane, rollout_id: RolloutId) -> RelayWarrant:
    end = fleet.now + timedelta(hours=1)
    rule = ClosureRule.TARGET
    warrant = Warrant("order-2", rollout_id, rule, "ada", "a fix", fleet.now, end, (LAPTOP,))
    text = encode_signed_warrant(sign_warrant(warrant, OPERATOR_KEY)).decode()
    return RelayWarrant(rollout_id, text, "ada", warrant.reason)


def test_a_successor_ends_the_lock_and_the_host_is_asked_about_it(
    fleet: ScriptedControlPlane,
) -> None:
    """It may be a fix; the lock of what it takes over from could not be overridden any more."""
    holiday(fleet)
    fleet.wait(minutes=60)
    fleet.publish("r2")
    assert lock_of(fleet) is None
    assert (LAPTOP, R2) in fleet.queued()
    before = likeness(fleet.state)
    assert not fleet.check_store().differences
    fleet.restart_control_plane()
    assert likeness(fleet.state) == before


def test_the_lock_is_overridden_for_a_successor(fleet: ScriptedControlPlane) -> None:
    """The host said "not now" of it, so it knows it."""
    holiday(fleet)
    fleet.publish("r2")
    host = holiday(fleet, R2)
    assert fleet.command(override_of(fleet, R2)).refusal is None
    reply = fleet.heartbeat(LAPTOP, {R2: len(host.facts)}, "any")
    assert [signed.warrant.order_id for signed in reply.warrants] == ["order-2"]


def test_a_late_acknowledgement_of_what_was_taken_over_from_ends_no_lock(
    fleet: ScriptedControlPlane,
) -> None:
    """The host waits with the successor since."""
    first = ScriptedHost(fleet, R1, LAPTOP)
    fleet.publish("r2")
    holiday(fleet, R2)
    assert first.tell(lambda seq: DispatchAck("release-0", fleet.now, seq)).accepted == 1
    assert lock_of(fleet) is not None
    assert (LAPTOP, R2) not in fleet.queued()


def test_a_late_postponement_of_what_was_taken_over_from_holds_nothing(
    fleet: ScriptedControlPlane,
) -> None:
    """The lock is asked about the successor."""
    first = ScriptedHost(fleet, R1, LAPTOP)
    fleet.publish("r2")
    postpone(first)
    assert lock_of(fleet) is None
    assert (LAPTOP, R2) in fleet.queued()


def test_an_enrollment_ends_the_lock(fleet: ScriptedControlPlane) -> None:
    """The machine may have no lock any more."""
    holiday(fleet)
    key = SigningKey.generate()
    token = token_for(LAPTOP, key, fleet.now)
    fleet.publish_lists(tokens=(token,))
    assert isinstance(fleet.enroll(token, key), EnrolledHost)
    assert lock_of(fleet) is None
    assert not fleet.check_store().differences


@pytest.mark.parametrize("seconds", [1, 59])
def test_a_lock_holds_for_a_minute_at_least(fleet: ScriptedControlPlane, seconds: int) -> None:
    """Each dispatch after it is rows of the log for good."""
    until = fleet.now + timedelta(seconds=seconds)
    ScriptedHost(fleet, R1, LAPTOP).tell(lambda seq: Postponed(fleet.now, "soon", until, seq))
    lock = lock_of(fleet)
    assert lock is not None
    assert lock.until == fleet.now + POSTPONED_MIN


def test_an_override_of_an_aborted_rollout_is_refused(fleet: ScriptedControlPlane) -> None:
    """Nothing can come of it, whatever the lock says. Every recall aborts its rollout, too."""
    laptop(fleet)
    assert fleet.command(AbortRollout(R1, "ada", "it eats disks")).refusal is None
    refusal = fleet.command(override(fleet)).refusal
    assert refusal is not None
    assert "stable@r1 is Aborted, and dispatches no host" in refusal
