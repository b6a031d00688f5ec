"""Where a host stands: what it waits for, since when and until when; or why it is in no rollout."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import FleetChannel, FleetHost, FleetResolved, Meta, OnDrift
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.deadlines import GRACE, backoff_of
from nixfleet_state_machine.planner.errors import UnknownHost
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind, HoldSource
from nixfleet_state_machine.planner.holds.scope import RolloutScope
from nixfleet_state_machine.planner.host_status import (
    HostDrift,
    HostInRollout,
    Outside,
    StageDeadline,
    WaitsFor,
    host_status,
)
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import Drift, RolloutState, Standing
from tests.planner.builders import NOW, host_of, rollout_of, terms_of, view_of

BEFORE = NOW - timedelta(minutes=4)
WAIT, SKIP = AtDeadline.WAIT, AtDeadline.SKIP


def _status(view: FleetView, hostname: str = "web-1", now: datetime = NOW) -> HostInRollout:
    (status,) = host_status(view, {}, (), hostname, now).rollouts
    return status


def _acting(
    state: HostState, terms: RolloutTerms | None = None, **fields: Any
) -> tuple[FleetView, RolloutTerms]:
    """Return a view in which web-1 is in `state` with these fields."""
    terms = terms or terms_of()
    view = view_of(terms)
    view.set_host(evolve(host_of(terms, "web-1", state), **fields))
    return view, terms


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


def test_a_host_of_a_later_wave_is_held_by_its_gates_since_the_rollout_opened() -> None:
    """With the hosts that the gate waits for, its wave of how many, and its attempt of how many."""
    view = view_of(terms_of(waves=(("web-1",), ("web-2",))))

    status = _status(view, "web-2")

    assert status.waits_for is WaitsFor.GATES
    assert [block.gate for block in status.gates] == [Gate.WAVE_PROMOTION]
    assert status.gates[0].detail.endswith(": web-1 (Pending)")
    assert (status.wave, status.last_wave, status.attempt, status.attempts) == (1, 1, 1, 1)
    assert (status.state, status.standing) == (HostState.PENDING, Standing.COUNTED)
    assert (status.since, status.until) == (NOW, None)


def test_a_host_that_no_gate_holds_is_dispatched_next() -> None:
    """Between a change and the plan that follows from it."""
    status = _status(view_of(terms_of()))

    assert (status.waits_for, status.gates) == (WaitsFor.DISPATCH, ())


@pytest.mark.parametrize(("then", "is_over"), [(SKIP, False), (WAIT, False), (WAIT, True)])
def test_a_host_with_a_queued_dispatch_is_waited_for_until_its_deadline(
    then: AtDeadline, is_over: bool
) -> None:
    """Since it was queued; after a deadline with nothing to follow it is overdue, and nothing changes by itself."""
    terms = terms_of(deadlines=Deadlines(ack=Deadline(10, then)))
    view = view_of(terms)
    view.set_queued(terms.rollout_id, "web-1", True, BEFORE)
    due = BEFORE + _minutes(10)

    status = _status(view, now=due if is_over else NOW)

    assert (status.waits_for, status.since) == (WaitsFor.ACKNOWLEDGEMENT, BEFORE)
    assert status.deadline == StageDeadline(Stage.ACK, due, then)
    assert (status.is_overdue, status.until) == (is_over, None if is_over else due)


def test_a_queued_dispatch_without_a_deadline_waits_since_it_was_dispatched() -> None:
    """For ever: there is no time at which something changes by itself."""
    view, terms = _acting(HostState.PENDING, dispatched_at=BEFORE)
    view.set_queued(terms.rollout_id, "web-1", True)

    status = _status(view)

    assert (status.waits_for, status.since) == (WaitsFor.ACKNOWLEDGEMENT, BEFORE)
    assert (status.deadline, status.until) == (None, None)


@pytest.mark.parametrize(
    ("state", "field", "waits_for"),
    [
        (HostState.ACTIVATING, "activation_started_at", WaitsFor.ACTIVATION),
        (HostState.ACTIVATING, "dispatch_acked_at", WaitsFor.ACTIVATION),
        (HostState.DEFERRED, "deferred_at", WaitsFor.REBOOT),
        (HostState.SOAKING, "activation_completed_at", WaitsFor.SOAK),
        (HostState.CONVERGED, "converged_at", WaitsFor.NOTHING),
        (HostState.FAILED, "failed_at", WaitsFor.NOTHING),
        (HostState.REVERTED, "reverted_at", WaitsFor.NOTHING),
    ],
)
def test_a_host_is_in_its_state_since_its_own_record_says(
    state: HostState, field: str, waits_for: WaitsFor
) -> None:
    """Each state has a time of its own in the record; at rest a host waits for nothing."""
    times: dict[str, Any] = {field: BEFORE}
    view, _ = _acting(state, **times)

    status = _status(view)

    assert (status.state, status.since, status.waits_for) == (state, BEFORE, waits_for)


def test_a_host_that_activates_has_the_deadline_of_its_activation_with_grace() -> None:
    """From its acknowledgement."""
    deadlines = Deadlines(activation=Deadline(30, SKIP))
    view, _ = _acting(HostState.ACTIVATING, terms_of(deadlines=deadlines), dispatch_acked_at=BEFORE)

    status = _status(view)

    assert status.deadline == StageDeadline(Stage.ACTIVATION, BEFORE + _minutes(30) + GRACE, SKIP)
    assert status.until == status.deadline.at


def test_a_host_that_soaks_says_when_that_can_end_at_the_earliest() -> None:
    """The end of the soak comes before its deadline; once it is past, only the deadline is ahead."""
    deadlines = Deadlines(convergence=Deadline(30, SKIP))
    view, _ = _acting(
        HostState.SOAKING,
        terms_of(deadlines=deadlines),
        dispatched_at=BEFORE,
        activation_completed_at=BEFORE,
        soak_due_at=BEFORE + _minutes(5),
    )

    early, late = _status(view), _status(view, now=BEFORE + _minutes(6))

    assert early.soak_ends_at == late.soak_ends_at == BEFORE + _minutes(5)
    assert early.until == early.soak_ends_at
    assert late.deadline is not None
    assert late.until == late.deadline.at == BEFORE + _minutes(30) + GRACE


def test_a_host_that_rolls_back_waits_for_the_end_of_that() -> None:
    """It is Failed until then."""
    view, _ = _acting(
        HostState.FAILED,
        failed_at=BEFORE,
        policy_applied=OnHealthFailure.ROLLBACK_AND_HALT,
        current_closure_at_dispatch="old",
    )

    assert (_status(view).waits_for, _status(view).since) == (WaitsFor.ROLLBACK, BEFORE)


def test_a_host_that_failed_backs_off_until_its_next_attempt() -> None:
    """With its attempt of how many; the time is that of the policy, with the spread of this host."""
    retry = Retry(attempts=3, backoff_seconds=60)
    view, _ = _acting(HostState.FAILED, terms_of(allowed=(1,), retry=retry), failed_at=NOW)

    status = _status(view)

    assert (status.waits_for, status.attempt, status.attempts) == (WaitsFor.BACKOFF, 1, 3)
    assert status.retry_at == status.until == NOW + backoff_of(retry, "web-1", 1)


def test_an_attempt_that_was_ordered_waits_as_a_first_one_does() -> None:
    """Its number is that of the order, also beyond those that were signed."""
    view, terms = _acting(HostState.FAILED, terms_of(allowed=(1,)), failed_at=BEFORE)
    view.set_rollout(rollout_of(terms, attempts={"web-1": 2}))

    status = _status(view)

    assert (status.waits_for, status.attempt, status.attempts) == (WaitsFor.DISPATCH, 2, 2)


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.LAPSED])
def test_a_host_that_is_silent_is_served_once_it_is_heard_of(standing: Standing) -> None:
    """No deadline runs for it any more, whatever it was at."""
    deadlines = Deadlines(activation=Deadline(1, SKIP))
    view, terms = _acting(
        HostState.ACTIVATING, terms_of(deadlines=deadlines), dispatch_acked_at=BEFORE
    )
    view.set_rollout(rollout_of(terms, standings={"web-1": standing}))

    status = _status(view)

    assert (status.waits_for, status.standing) == (WaitsFor.CONTACT, standing)
    assert (status.deadline, status.until) == (None, None)


def test_a_late_host_of_a_terminal_rollout_is_served() -> None:
    """Its gates are asked as before; a host that left is waited for by nobody."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(
        rollout_of(
            terms,
            RolloutState.TERMINAL,
            standings={"web-1": Standing.LATE, "web-2": Standing.LEFT},
        )
    )

    assert _status(view, "web-1").waits_for is WaitsFor.DISPATCH
    assert _status(view, "web-2").waits_for is WaitsFor.NOTHING


@pytest.mark.parametrize("on_drift", list(OnDrift))
def test_a_host_that_drifted_is_shown_with_what_it_runs_and_what_follows(on_drift: OnDrift) -> None:
    """Where the channel restores, its back-off runs; where it reports, the host waits for nothing."""
    terms = evolve(terms_of(), on_drift=on_drift)
    view, _ = _acting(HostState.CONVERGED, terms, converged_at=BEFORE)
    view.set_rollout(view.rollout(terms.rollout_id).with_drift("web-1", Drift("own", NOW)))

    status = _status(view)

    assert status.drift == HostDrift("own", NOW, on_drift)
    over = NOW + backoff_of(terms.retry, "web-1", 1)
    restores = (WaitsFor.BACKOFF, over, over)
    found = (status.waits_for, status.retry_at, status.until)
    assert found == (restores if on_drift is OnDrift.RESTORE else (WaitsFor.NOTHING, None, None))


def test_a_host_that_a_signed_time_holds_waits_until_then() -> None:
    """The time before which its wave does not begin is the next change by itself."""
    terms = terms_of()
    view = view_of(terms)
    begins = NOW + _minutes(30)
    source = HoldSource(HoldKind.NOT_BEFORE)
    view.hold(Hold(RolloutScope(terms.rollout_id), source, "wave 0 begins later", begins))

    status = _status(view)

    assert (status.waits_for, status.until) == (WaitsFor.GATES, begins)


@pytest.mark.parametrize("state", [RolloutState.FAILED, RolloutState.ABORTED])
def test_a_host_of_a_halted_rollout_waits_for_no_time(state: RolloutState) -> None:
    """A hold that ends by itself changes nothing for it: an operator does, or another release."""
    terms = terms_of()
    view = view_of(terms)
    source = HoldSource(HoldKind.NOT_BEFORE)
    view.hold(Hold(RolloutScope(terms.rollout_id), source, "begins later", NOW + _minutes(30)))
    view.set_rollout(rollout_of(terms, state))

    assert _status(view).until is None


def test_a_host_that_left_is_known_and_said_to_have_left() -> None:
    """Whether a fleet in force still declares it or not; of a rollout that is superseded it is no member."""
    terms = terms_of(waves=(("web-2",),))
    view = view_of(terms)
    left = rollout_of(terms, standings={"web-1": Standing.LEFT})
    view.set_rollout(left)

    for fleets in ((), (DECLARED,)):
        status = host_status(view, {}, fleets, "web-1", NOW)
        assert (status.outside, status.left) == (Outside.LEFT, (terms.rollout_id,))

    view.set_rollout(evolve(left, state=RolloutState.SUPERSEDED))
    with pytest.raises(UnknownHost):
        host_status(view, {}, (), "web-1", NOW)


def test_a_host_is_shown_in_each_rollout_that_serves_it() -> None:
    """Not in one that was superseded."""
    old, new = terms_of("stable@a1"), terms_of("stable@b2")
    view = view_of(old, new)
    view.set_rollout(rollout_of(old, RolloutState.SUPERSEDED))

    assert _status(view).rollout_id == "stable@b2"


def _fleet(host: FleetHost, channel: FleetChannel) -> FleetResolved:
    return FleetResolved(
        FrozenMap({"web-1": host}),
        FrozenMap({"stable": channel}),
        FrozenMap(),
        FrozenMap(),
        Meta(NOW),
    )


HOST, CHANNEL = FleetHost("stable"), FleetChannel("canary")
DECLARED = _fleet(HOST, CHANNEL)


@pytest.mark.parametrize(
    ("fleet", "outside"),
    [
        (_fleet(evolve(HOST, enabled=False), CHANNEL), Outside.HOST_DISABLED),
        (_fleet(HOST, evolve(CHANNEL, enabled=False)), Outside.CHANNEL_DISABLED),
        (DECLARED, Outside.UNRELEASED),
    ],
)
def test_a_host_in_no_rollout_is_told_with_its_channel_and_why(
    fleet: FleetResolved, outside: Outside
) -> None:
    """It or its channel is disabled, or nothing was released there."""
    status = host_status(FleetView(), {}, (fleet,), "web-1", NOW)

    assert (status.channel, status.outside, status.rollouts) == ("stable", outside, ())


def test_a_host_that_the_release_in_force_does_not_name_is_outside_of_it() -> None:
    """It was declared later."""
    view = view_of(terms_of(waves=(("web-2",),)))

    assert host_status(view, {}, (DECLARED,), "web-1", NOW).outside is Outside.UNNAMED


def test_a_rollout_that_is_not_open_and_one_that_is_pruned_have_no_hosts() -> None:
    """The release names the host; before the rollout opens and after its end there is no record of it."""
    terms = terms_of()
    view = FleetView()
    view.offer(terms)
    assert host_status(view, {}, (DECLARED,), "web-1", NOW).outside is Outside.UNOPENED

    view.open(rollout_of(terms, RolloutState.PRUNED), terms)
    view.forget_rollout(terms.rollout_id)

    assert host_status(view, {}, (DECLARED,), "web-1", NOW).outside is Outside.DONE


def test_a_host_that_only_a_superseded_rollout_names_is_declared_no_more() -> None:
    """No fleet in force has it."""
    terms = terms_of()
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, RolloutState.SUPERSEDED))

    status = host_status(view, {}, (), "web-1", NOW)

    assert (status.channel, status.outside) == (None, Outside.UNDECLARED)


def test_the_newest_fleet_that_names_a_host_says_its_channel() -> None:
    """Fleets come the newest first; one without the host says nothing of it."""
    without = evolve(DECLARED, hosts=FrozenMap({}))
    moved = _fleet(FleetHost("edge"), CHANNEL)

    status = host_status(FleetView(), {}, (without, moved, DECLARED), "web-1", NOW)

    assert (status.channel, status.outside) == ("edge", Outside.UNRELEASED)


def test_an_unknown_host_is_refused_with_all_that_are_known() -> None:
    """Of rollouts and of fleets."""
    view = view_of(terms_of(waves=(("db-1",),)))

    with pytest.raises(UnknownHost) as caught:
        host_status(view, {}, (DECLARED,), "web-9", NOW)

    assert caught.value.hosts == ("db-1", "web-1")


def test_what_is_no_host_name_is_refused() -> None:
    """Before anything is looked up."""
    with pytest.raises(InvalidValue, match="hostname"):
        host_status(FleetView(), {}, (), 7, NOW)  # type: ignore[arg-type]  # The test's point.


def test_only_rollouts_in_which_a_host_waits_for_a_dispatch_have_blocks() -> None:
    """The mapping is that of `explain`."""
    terms, other = terms_of(), terms_of("edge@b2")
    view = view_of(terms, other)
    record: HostRolloutState = host_of(other, "web-1", HostState.SOAKING)
    view.set_host(record)

    assert host_status(view, {}, (), "web-1", NOW).blocks == {terms.rollout_id: ()}
