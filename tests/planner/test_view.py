"""`FleetView`: what it keeps, what it counts, and what it lets go."""

import pytest
from attrs import evolve

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import Selector
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.planner.errors import UnknownHost
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.tally import Tally
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from nixfleet_state_machine.undo import UndoLog
from nixfleet_testing.pauses import pause
from tests.planner.builders import (
    NOW,
    budget,
    host_of,
    open_rollout,
    put,
    rollout_of,
    terms_of,
    view_of,
)
from tests.planner.world import reading

TERMS = terms_of(waves=(("web-1", "web-2"), ("web-3",)), budgets=(budget(3, "web-1", "web-2"),))
WEB = Selector(tags=("web",))


def test_hosts_are_read_back_by_rollout_and_name() -> None:
    """Records come back as they were given, in order of name; what is unknown is `None`."""
    view = view_of(TERMS)

    assert view.host(TERMS.rollout_id, "web-1") == host_of(TERMS, "web-1")
    assert view.host(TERMS.rollout_id, "ghost") is None
    assert view.host(RolloutId("edge@c3"), "web-1") is None
    assert [host.hostname for host in view.hosts_of(TERMS.rollout_id)] == [
        "web-1",
        "web-2",
        "web-3",
    ]


def test_rollouts_are_read_back_by_channel_and_id() -> None:
    """A channel's rollouts come in the order of their ids, live or not."""
    later, edge = terms_of("stable@b2"), terms_of("edge@c3")
    view = view_of(later, edge, TERMS)
    view.set_rollout(rollout_of(TERMS, RolloutState.SUPERSEDED))

    assert [record.rollout_id for record in view.rollouts_of("stable")] == [
        "stable@a1",
        "stable@b2",
    ]
    assert view.live_rollouts() == ["edge@c3", "stable@b2"]


def test_queue_is_read_back_by_host_and_by_rollout() -> None:
    """A host is in the queue until it is taken out."""
    view = view_of(TERMS)
    view.set_queued(TERMS.rollout_id, "web-2", True)
    view.set_queued(TERMS.rollout_id, "web-1", True)
    view.set_queued(TERMS.rollout_id, "web-1", True)

    assert [*view.queued_of(TERMS.rollout_id)] == ["web-1", "web-2"]
    assert view.is_queued(TERMS.rollout_id, "web-2")
    view.set_queued(TERMS.rollout_id, "web-2", False)
    assert not view.is_queued(TERMS.rollout_id, "web-2")
    assert not view.is_queued(RolloutId("edge@c3"), "web-2")


def test_counts_follow_the_hosts() -> None:
    """Each wave, and the rollout, is counted as its hosts move, forth and back."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.SOAKING, web_2=HostState.DEFERRED, web_3=HostState.CONVERGED)
    view.set_outstanding(TERMS.rollout_id, "web-1", 2)

    assert view.tally(TERMS.rollout_id, 0) == Tally(2, 1, 2, 0, 2, 0)
    assert view.tally(TERMS.rollout_id, 1) == Tally(1, 1, 1, 1, 0, 0)
    assert view.tally(TERMS.rollout_id) == Tally(3, 2, 3, 1, 2, 0)
    put(view, TERMS, web_1=HostState.FAILED, web_2=HostState.FAILED)
    assert view.tally(TERMS.rollout_id, 0) == Tally(2, 0, 0, 0, 2, 0, failed=2)


def test_counts_leave_out_whom_an_operator_excused() -> None:
    """Excused, a host leaves all counts of its wave; it takes its slot all the same."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.SOAKING)
    view.set_rollout(rollout_of(TERMS, excused={"web-1"}))

    assert view.tally(TERMS.rollout_id, 0) == Tally(1, 0, 0, 0, 0, 0)
    assert view.in_flight(WEB) == 1
    put(view, TERMS, web_1=HostState.CONVERGED)
    assert view.tally(TERMS.rollout_id, 0) == Tally(1, 0, 0, 0, 0, 0)


def test_counts_have_a_host_back_that_is_no_longer_excused() -> None:
    """Also one without whom its wave had nobody when the view was made."""
    view = FleetView(UndoLog())
    view.open(rollout_of(TERMS, excused={"web-3"}), TERMS)
    assert view.tally(TERMS.rollout_id, 1) == Tally(0, 0, 0, 0, 0, 0)
    view.set_rollout(rollout_of(TERMS))

    assert view.tally(TERMS.rollout_id, 1) == Tally(1, 0, 0, 0, 0, 0)


def test_counts_do_not_change_when_somebody_unknown_is_excused() -> None:
    """To excuse a host that the rollout does not have changes nothing."""
    view = view_of(TERMS)
    before = view.tally(TERMS.rollout_id)
    view.set_rollout(rollout_of(TERMS, excused={"ghost"}))

    assert view.tally(TERMS.rollout_id) == before


def test_in_flight_counts_members_of_live_rollouts_alone() -> None:
    """Queued, Activating and Soaking members count, until their rollout is over."""
    view = view_of(TERMS)
    view.set_queued(TERMS.rollout_id, "web-1", True)
    put(view, TERMS, web_2=HostState.ACTIVATING, web_3=HostState.ACTIVATING)
    assert view.in_flight(WEB) == 2
    view.set_rollout(rollout_of(TERMS, RolloutState.SUPERSEDED))
    assert view.in_flight(WEB) == 0
    put(view, TERMS, web_1=HostState.ACTIVATING)
    view.set_queued(TERMS.rollout_id, "web-1", False)
    assert view.in_flight(WEB) == 0


def test_in_flight_counts_a_host_once_through_queue_and_acknowledgement() -> None:
    """From its dispatch to its end a host takes one slot, in whichever order queue and record change."""
    view = view_of(TERMS)
    counts: list[int] = []
    view.set_queued(TERMS.rollout_id, "web-1", True)
    counts.append(view.in_flight(WEB))
    put(view, TERMS, web_1=HostState.ACTIVATING)
    counts.append(view.in_flight(WEB))
    view.set_queued(TERMS.rollout_id, "web-1", False)
    counts.append(view.in_flight(WEB))
    put(view, TERMS, web_1=HostState.CONVERGED)

    assert counts == [1, 1, 1]
    assert view.in_flight(WEB) == 0


def test_in_flight_counts_the_members_of_a_rollout_that_is_live_again() -> None:
    """What a rollout gave back when it was over it takes again, neither more nor less."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.ACTIVATING)
    view.set_rollout(rollout_of(TERMS, RolloutState.SUPERSEDED))
    view.set_rollout(rollout_of(TERMS))

    assert view.in_flight(WEB) == 1


def test_in_flight_leaves_out_a_pending_host_that_has_acknowledged() -> None:
    """A dispatch that was taken no longer holds a slot by being in the queue: the host's state says the rest."""
    view = view_of(TERMS)
    view.set_queued(TERMS.rollout_id, "web-1", True)
    assert view.in_flight(WEB) == 1
    view.set_host(evolve(host_of(TERMS, "web-1"), dispatch_acked_at=NOW))

    assert view.in_flight(WEB) == 0


def test_record_that_the_terms_do_not_name_is_a_mistake() -> None:
    """A host, or a closure, that is not of the rollout's terms is refused at once."""
    view = view_of(TERMS)
    with pytest.raises(InvalidValue, match="expected 'a1-web-1', as the terms of stable@a1"):
        view.set_host(evolve(host_of(TERMS, "web-1"), target_closure="other"))
    with pytest.raises(UnknownHost, match="host 'ghost' is not part of rollout stable@a1"):
        view.set_host(evolve(host_of(TERMS, "web-1"), hostname="ghost"))


def _pruned(terms_record: RolloutRecord) -> RolloutRecord:
    return evolve(terms_record, state=RolloutState.PRUNED)


def test_forgotten_rollout_that_the_manifest_still_names_is_not_opened_again() -> None:
    """A finished release whose retention expired stays finished, until another is released."""
    view = view_of(TERMS)
    view.set_rollout(_pruned(rollout_of(TERMS, RolloutState.TERMINAL)))
    view.forget_rollout(TERMS.rollout_id)
    view.offer(TERMS)

    assert plan_next(view, {}, NOW) == ()
    assert view.host(TERMS.rollout_id, "web-1") is None
    assert [*view.queued_of(TERMS.rollout_id)] == []
    successor = terms_of("stable@b2")
    view.offer(successor)
    assert TERMS.rollout_id not in view.rollouts
    assert plan_next(view, {}, NOW) == (OpenRollout(successor.rollout_id, "stable", "b2"),)


def test_forgotten_rollout_whose_record_is_set_again_stays_forgotten() -> None:
    """The bare record that is left can be replaced; there are no hosts to count."""
    view = view_of(TERMS)
    view.set_rollout(_pruned(rollout_of(TERMS, RolloutState.TERMINAL)))
    view.forget_rollout(TERMS.rollout_id)
    again = _pruned(rollout_of(TERMS, RolloutState.TERMINAL, excused={"web-1"}))
    view.set_rollout(again)

    assert dict(view.rollouts) == {TERMS.rollout_id: again}
    assert view.in_flight(WEB) == 0
    assert plan_next(view, {}, NOW) == ()


def test_forgotten_rollout_that_no_manifest_names_is_gone() -> None:
    """A superseded rollout leaves nothing behind: no record, no slot, no pause."""
    view = view_of(TERMS)
    put(view, TERMS, web_1=HostState.ACTIVATING)
    pause(view, TERMS.rollout_id)
    view.offer(terms_of("stable@b2"))
    view.forget_rollout(TERMS.rollout_id)

    assert dict(view.rollouts) == {}
    assert not view.holds
    assert view.in_flight(WEB) == 0


def test_retracted_manifest_is_no_longer_offered() -> None:
    """A channel that lost its manifest has nothing to open."""
    view = FleetView(UndoLog())
    view.offer(TERMS)
    view.retract("stable")

    assert dict(view.offers) == {}
    assert plan_next(view, {}, NOW) == ()


def test_view_is_equal_to_no_value_of_another_class() -> None:
    """A comparison with something else answers, and does not raise."""
    assert FleetView() != object()
    assert FleetView() == FleetView()


def test_view_that_was_undone_reads_as_before() -> None:
    """Every kind of change can be taken back, all of them together."""
    undo = UndoLog()
    view = view_of(TERMS, undo=undo)
    put(view, TERMS, web_1=HostState.SOAKING)
    mark, before = undo.mark(), reading(view)
    put(view, TERMS, web_1=HostState.CONVERGED, web_2=HostState.ACTIVATING)
    view.set_queued(TERMS.rollout_id, "web-3", True)
    view.set_outstanding(TERMS.rollout_id, "web-1", 1)
    pause(view, "stable")
    open_rollout(view, terms_of("stable@b2"))
    view.set_rollout(rollout_of(TERMS, RolloutState.SUPERSEDED, excused={"web-1"}))
    view.offer(terms_of("stable@b2"))
    view.forget_rollout(TERMS.rollout_id)
    view.retract("stable")
    undo.undo_to(mark)

    assert reading(view) == before
