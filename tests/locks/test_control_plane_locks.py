"""A host whose own lock says "not now": it is held, takes no slot, fails nothing, and is asked again when it said."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from nixfleet_control_plane.history.narration import told as narrated
from nixfleet_control_plane.messages.inputs import (
    ExcuseHosts,
    ExplainHost,
    Explanation,
    PauseScope,
    RelayWarrant,
    ReleaseHold,
    ResumeScope,
)
from nixfleet_control_plane.messages.log_entry import Commanded, FactReported, HoldMoved
from nixfleet_proto.agent_event import Postponed
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, RolloutPolicy
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.holds.device import DEVICE, POSTPONED_MAX, REASON_LENGTH_MAX
from nixfleet_state_machine.planner.holds.hold import Hold, HoldEnded
from nixfleet_state_machine.planner.holds.scope import HostScope, parse_scope
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import OPERATOR_KEY, Layout
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost

R1 = RolloutId("stable@r1")
LAPTOP = "web-01"
SCOPE = HostScope(LAPTOP)
ONE_WAVE = Layout(waves=(("web-01", "web-02", "web-03"),), max_in_flight=1)


@pytest.fixture
def fleet() -> Iterator[ScriptedControlPlane]:
    """Three hosts in one wave, one of which may be in flight at once; stable@r1 is published."""
    with (
        scratch_directory() as directory,
        closing(ScriptedControlPlane(directory, ONE_WAVE)) as control_plane,
    ):
        control_plane.publish("r1")
        yield control_plane


def postpone(host: ScriptedHost, minutes: float = 30, reason: str = "in a call") -> None:
    until = host.now + timedelta(minutes=minutes)
    host._taken(lambda seq: Postponed(host.now, reason, until, seq))


def laptop(fleet: ScriptedControlPlane) -> ScriptedHost:
    """web-01, which was dispatched first, and whose user is in a call for half an hour."""
    host = ScriptedHost(fleet, R1, LAPTOP)
    assert fleet.queued()[0] == (LAPTOP, R1)
    postpone(host)
    return host


def lock_of(fleet: ScriptedControlPlane) -> Hold | None:
    return fleet.state.view.holds.get(SCOPE, DEVICE)


def test_a_postponed_host_is_held_with_its_reason_and_end(fleet: ScriptedControlPlane) -> None:
    """By its own device, and its dispatch leaves the queue."""
    laptop(fleet)
    until = fleet.now + timedelta(minutes=30)
    assert lock_of(fleet) == Hold(SCOPE, DEVICE, "in a call", until, fleet.now)
    assert (LAPTOP, R1) not in fleet.queued()
    assert fleet.mirrored(R1, LAPTOP).state is HostState.PENDING


def test_a_postponed_host_takes_no_slot(fleet: ScriptedControlPlane) -> None:
    """The next one goes in its place, and converges."""
    laptop(fleet)
    assert fleet.queued() == [("web-02", R1)]
    ScriptedHost(fleet, R1, "web-02").finish()
    assert fleet.states(R1)["web-02"] is HostState.CONVERGED


def test_the_gate_of_a_postponed_host_says_why_and_until_when(fleet: ScriptedControlPlane) -> None:
    """In the deferral and in `explain`."""
    laptop(fleet)
    deferral = fleet.state.deferrals[R1, LAPTOP]
    assert deferral.gate is Gate.OPERATOR_HOLD
    assert deferral.reason == "host web-01 is locked by its own device: in a call"
    status = fleet.ask_for(Explanation, ExplainHost(LAPTOP)).status
    assert status is not None
    (rollout,) = status.rollouts
    assert rollout.gates[0].gate is Gate.OPERATOR_HOLD
    assert rollout.gates[0].until == fleet.now + timedelta(minutes=30)


def test_a_lock_whose_time_is_over_has_the_host_dispatched_again(
    fleet: ScriptedControlPlane,
) -> None:
    """With one row that says so; the host asks its lock again."""
    laptop(fleet)
    fleet.wait(minutes=30)
    fleet.tick()
    assert fleet.logged(HoldMoved) == [HoldMoved(HoldEnded(SCOPE, DEVICE))]
    assert lock_of(fleet) is None
    assert LAPTOP not in {host for host, _ in fleet.queued()}, "web-02 has the only slot"
    ScriptedHost(fleet, R1, "web-02").finish()
    assert fleet.queued() == [(LAPTOP, R1)]


def test_a_host_whose_lock_opens_later_converges(fleet: ScriptedControlPlane) -> None:
    """And the rollout ends, with nobody failed."""
    host = laptop(fleet)
    for other in ("web-02", "web-03"):
        ScriptedHost(fleet, R1, other).finish()
    fleet.tick()
    host.finish()
    assert fleet.rollout(R1).state is RolloutState.TERMINAL
    assert not fleet.rollout(R1).standings
    assert not fleet.check_store().differences


def test_an_acknowledgement_ends_the_lock_of_the_host(fleet: ScriptedControlPlane) -> None:
    """In whatever rollout: the host begins, so it is not locked."""
    host = laptop(fleet)
    host.acknowledge()
    assert lock_of(fleet) is None
    assert fleet.mirrored(R1, LAPTOP).state is HostState.ACTIVATING


def test_a_postponement_that_is_over_ends_the_lock(fleet: ScriptedControlPlane) -> None:
    """The host says that it may be dispatched; it is, in its turn."""
    host = laptop(fleet)
    ScriptedHost(fleet, R1, "web-02").finish()
    ScriptedHost(fleet, R1, "web-03").finish()
    assert fleet.queued() == []
    postpone(host, minutes=0, reason="the call is over")
    assert lock_of(fleet) is None
    assert fleet.queued() == [(LAPTOP, R1)]


def test_a_postponement_holds_from_its_receipt_for_as_long_as_it_says(
    fleet: ScriptedControlPlane,
) -> None:
    """A host whose clock is behind is held too: it would be dispatched and say "not now" for ever."""
    host = ScriptedHost(fleet, R1, LAPTOP)
    at = fleet.now - timedelta(minutes=16)
    until = at + timedelta(minutes=15)
    assert host.tell(lambda seq: Postponed(at, "in a call", until, seq)).accepted == 1
    lock = lock_of(fleet)
    assert lock is not None
    assert lock.until == fleet.now + timedelta(minutes=15)
    assert (LAPTOP, R1) not in fleet.queued()


def test_a_later_postponement_takes_the_place_of_the_earlier_one(
    fleet: ScriptedControlPlane,
) -> None:
    """With its reason and its end."""
    host = laptop(fleet)
    fleet.wait(minutes=10)
    postpone(host, minutes=60, reason="lunch")
    lock = lock_of(fleet)
    assert lock is not None
    assert (lock.reason, lock.until) == ("lunch", fleet.now + timedelta(minutes=60))


def test_a_host_locks_itself_for_a_bounded_time_and_with_a_bounded_reason(
    fleet: ScriptedControlPlane,
) -> None:
    """What it says is a claim of one host."""
    host = ScriptedHost(fleet, R1, LAPTOP)
    postpone(host, minutes=60 * 24 * 365, reason="x" * 600)
    lock = lock_of(fleet)
    assert lock is not None
    assert lock.until == fleet.now + POSTPONED_MAX
    assert lock.reason == "x" * REASON_LENGTH_MAX


def test_a_postponed_host_is_never_overdue_or_absent(fleet: ScriptedControlPlane) -> None:
    """Its `ack` deadline begins anew with each dispatch; it is heard of, and counts as open."""
    deadline = Deadlines(ack=Deadline(10, AtDeadline.FAIL))
    layout = Layout(waves=((LAPTOP,),), policy=RolloutPolicy(deadlines=deadline))
    fleet.publish("r2", layout)
    host = ScriptedHost(fleet, RolloutId("stable@r2"), LAPTOP)
    for _ in range(5):
        postpone(host, minutes=15)
        fleet.wait(minutes=15)
        fleet.tick()
    assert fleet.rollout(RolloutId("stable@r2")).standing_of(LAPTOP) is Standing.COUNTED
    assert (LAPTOP, "stable@r2") in fleet.queued()


def test_an_operator_goes_on_without_a_host_that_never_lets_anything_begin(
    fleet: ScriptedControlPlane,
) -> None:
    """The wave waits for nobody else."""
    host = laptop(fleet)
    for other in ("web-02", "web-03"):
        ScriptedHost(fleet, R1, other).finish()
        postpone(host)
    assert fleet.rollout(R1).state is not RolloutState.TERMINAL
    excused = ExcuseHosts(R1, frozenset({LAPTOP}), "ada", "on holiday")
    assert fleet.command(excused).refusal is None
    assert fleet.rollout(R1).state is RolloutState.TERMINAL


def test_another_attempt_may_be_postponed_too(fleet: ScriptedControlPlane) -> None:
    """The dispatch of the attempt leaves the queue, and the host stays as it was."""
    host = ScriptedHost(fleet, R1, LAPTOP)
    host.finish()
    postpone(host)
    assert fleet.mirrored(R1, LAPTOP).state is HostState.CONVERGED
    assert lock_of(fleet) is not None


def test_a_lock_is_of_one_host_and_no_operator_lifts_it_by_name(
    fleet: ScriptedControlPlane,
) -> None:
    """It would say so again; a pause of the host beside it is lifted alone."""
    laptop(fleet)
    release = ReleaseHold(SCOPE, "ada", "it is urgent", "ada")
    assert fleet.command(release).refusal is not None
    assert fleet.command(ResumeScope(SCOPE, "ada", "it is urgent")).refusal is not None
    assert fleet.command(PauseScope(parse_scope(f"host:{LAPTOP}"), "ada", "me too")).refusal is None
    assert fleet.command(ResumeScope(SCOPE, "ada", "done")).refusal is None
    assert lock_of(fleet) is not None


def test_a_restart_and_a_replay_know_the_lock(fleet: ScriptedControlPlane) -> None:
    """The hold follows from the row of the fact; no row of its own is needed."""
    laptop(fleet)
    assert not fleet.check_store().differences
    before = likeness(fleet.state)
    fleet.restart_control_plane()
    assert likeness(fleet.state) == before
    assert lock_of(fleet) is not None
    fleet.wait(minutes=30)
    fleet.tick()
    assert not fleet.check_store().differences


def test_a_control_plane_that_lost_its_database_learns_of_a_lock_again(
    fleet: ScriptedControlPlane,
) -> None:
    """From the facts in the host's journal, for as long as they said."""
    host = laptop(fleet)
    fleet.destroy_control_plane()
    fleet.publish("r1")
    fleet.wait(minutes=10)
    fact = host.facts[0]
    assert fleet.hear(LAPTOP, R1, fact).accepted == 1
    lock = lock_of(fleet)
    assert lock is not None
    assert lock.until == fleet.now + timedelta(minutes=30)


def test_the_story_says_that_a_host_postpones(fleet: ScriptedControlPlane) -> None:
    """With the reason of its lock, and the end of it."""
    host = laptop(fleet)
    postpone(host, minutes=0, reason="the call is over")
    facts = [logged for logged in fleet.log() if isinstance(logged.entry, FactReported)]
    told = [narrated(logged.entry) for logged in facts]
    assert any("postpones until 2026" in line and line.endswith(": in a call") for line in told)
    assert any("is not postponed any more: the call is over" in line for line in told)


# Overrides.


def override(fleet: ScriptedControlPlane, *hosts: str) -> RelayWarrant:
    end = fleet.now + timedelta(hours=1)
    rule = ClosureRule.TARGET
    warrant = Warrant("order-1", R1, rule, "ada", "a fix", fleet.now, end, hosts or (LAPTOP,))
    text = encode_signed_warrant(sign_warrant(warrant, OPERATOR_KEY)).decode()
    return RelayWarrant(R1, text, "ada", warrant.reason)


def told(fleet: ScriptedControlPlane, hostname: str = LAPTOP) -> list[str]:
    record = fleet.mirrored(R1, hostname)
    reply = fleet.heartbeat(hostname, {R1: record.last_event_seq}, "any")
    return [signed.warrant.order_id for signed in reply.warrants]


def test_an_override_reaches_the_host_that_is_locked(fleet: ScriptedControlPlane) -> None:
    """No policy has to grant it, the rollout goes on, and no other host is told."""
    laptop(fleet)
    assert fleet.command(override(fleet, LAPTOP, "web-02")).refusal is None
    assert fleet.rollout(R1).state.is_live
    assert told(fleet) == ["order-1"]
    assert told(fleet, "web-02") == []


def test_an_override_is_relayed_until_the_host_says_that_its_lock_is_over(
    fleet: ScriptedControlPlane,
) -> None:
    """Then it is dispatched, in its turn."""
    host = laptop(fleet)
    fleet.command(override(fleet))
    assert told(fleet) == told(fleet) == ["order-1"]
    postpone(host, minutes=0, reason="order order-1 of ada overrides the lock")
    assert told(fleet) == []
    ScriptedHost(fleet, R1, "web-02").finish()
    assert fleet.queued() == [(LAPTOP, R1)]


def test_an_override_waits_for_a_host_that_is_not_locked_yet(fleet: ScriptedControlPlane) -> None:
    """It is handed out once the lock holds the host."""
    fleet.command(override(fleet))
    assert told(fleet) == []
    laptop(fleet)
    assert told(fleet) == ["order-1"]


def test_an_override_that_expired_is_relayed_no_more(fleet: ScriptedControlPlane) -> None:
    """The host would refuse it."""
    host = laptop(fleet)
    fleet.command(override(fleet))
    fleet.wait(minutes=60)
    postpone(host)
    assert told(fleet) == []


def test_an_override_is_a_row_of_its_own_and_tells_whose_locks(
    fleet: ScriptedControlPlane,
) -> None:
    """The log has it as it was signed."""
    laptop(fleet)
    command = override(fleet)
    fleet.command(command)
    assert fleet.logged(Commanded)[-1] == Commanded(command)
    (line,) = [narrated(it.entry) for it in fleet.log() if isinstance(it.entry, Commanded)]
    assert "relays an override of the lock of web-01 for stable@r1: a fix" in line
    assert not fleet.check_store().differences
