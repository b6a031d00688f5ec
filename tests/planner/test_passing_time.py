"""Edges: the events that the passing of time makes due, gathered by what happens, none of them twice."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.deadlines import BACKOFF_OVER, GRACE, backoff_of
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.rollout_view import RolloutBook
from nixfleet_state_machine.planner.passing_time import (
    SILENT_AFTER,
    due_by_time,
    next_time,
    slots_due,
)
from nixfleet_state_machine.rollout.event import HostsLapsed, RetryOrdered, Stage
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from nixfleet_state_machine.undo import UndoLog
from tests.planner.builders import NOW, host_of, rollout_of, terms_of, view_of

HOSTS = ("web-1", "web-2", "web-3")
MINUTE = timedelta(minutes=1)
RETRY = Retry(attempts=2, backoff_seconds=60)
TERMS = terms_of(
    waves=(HOSTS,),
    allowed=(2,),
    deadlines=Deadlines(
        ack=Deadline(10, AtDeadline.SKIP), activation=Deadline(20, AtDeadline.FAIL)
    ),
    retry=RETRY,
)
ID = TERMS.rollout_id
ACK_DUE, SWITCH_DUE = NOW + 10 * MINUTE, NOW + 20 * MINUTE + GRACE


def _never(_: str) -> datetime | None:
    return None


def _view(undo: UndoLog | None = None) -> FleetView:
    """Return a view in which the first two have a dispatch, and the third switches."""
    view = view_of(TERMS, undo=undo)
    view.set_queued(ID, "web-1", True, NOW)
    view.set_queued(ID, "web-2", True, NOW)
    view.set_host(host_of(TERMS, "web-3", HostState.ACTIVATING))
    return view


def test_nothing_is_due_before_its_time() -> None:
    """The next edge is when the first host is overdue."""
    view = _view()

    assert next_time(view) == ACK_DUE
    assert due_by_time(view, ACK_DUE - timedelta(microseconds=1), _never) == ()


def test_hosts_to_which_the_same_happens_are_in_one_event() -> None:
    """By rollout, stage and standing; hosts by name."""
    view = _view()

    assert due_by_time(view, SWITCH_DUE, _never) == (
        HostsLapsed(ID, ("web-1", "web-2"), Stage.ACK, Standing.AWAY, SWITCH_DUE, withdraws=True),
        HostsLapsed(ID, ("web-3",), Stage.ACTIVATION, Standing.LAPSED, SWITCH_DUE),
    )


def test_a_dispatch_is_withdrawn_from_a_host_that_was_not_heard_of() -> None:
    """One that was heard of shortly before keeps it: it may well do what it was told."""
    view = _view()
    heard = {"web-1": ACK_DUE - SILENT_AFTER, "web-2": ACK_DUE - SILENT_AFTER - MINUTE}
    events = due_by_time(view, ACK_DUE, heard.get)

    withdraws = {each.hosts: each.withdraws for each in events if isinstance(each, HostsLapsed)}
    assert withdraws == {("web-1",): False, ("web-2",): True}


def test_an_event_that_was_applied_is_not_due_again() -> None:
    """After that the next edge is another one, or none."""
    view = _view()
    for expected in (SWITCH_DUE, None):
        for event in due_by_time(view, next_time(view) or NOW, _never):
            view.set_rollout(step_rollout(view.rollout(ID), event, NOW)[0])
        assert next_time(view) == expected
    assert due_by_time(view, NOW + timedelta(days=365), _never) == ()


def test_an_event_that_was_not_applied_stays_due() -> None:
    """To ask changes nothing."""
    view = _view()

    assert due_by_time(view, ACK_DUE, _never) == due_by_time(view, ACK_DUE, _never)
    assert next_time(view) == ACK_DUE


def test_a_host_may_try_again_when_its_back_off_is_over() -> None:
    """Each after its own, in one event if nobody looked before."""
    view = view_of(TERMS)
    for name in HOSTS[:2]:
        view.set_host(evolve(host_of(TERMS, name, HostState.REVERTED), failed_at=NOW))
    waits = sorted(backoff_of(RETRY, name, 1) for name in HOSTS[:2])
    assert next_time(view) == NOW + waits[0]

    assert due_by_time(view, NOW + waits[1], _never) == (
        RetryOrdered(ID, HOSTS[:2], 2, BACKOFF_OVER, NOW + waits[1]),
    )


@pytest.mark.parametrize("state", [RolloutState.SUPERSEDED, RolloutState.PRUNED])
def test_nothing_is_due_in_a_rollout_that_nobody_serves(state: RolloutState) -> None:
    """Its hosts are another rollout's."""
    view = _view()
    view.set_rollout(rollout_of(TERMS, state))

    assert next_time(view) is None
    assert due_by_time(view, SWITCH_DUE, _never) == ()


@pytest.mark.parametrize("state", [RolloutState.TERMINAL, RolloutState.FAILED])
def test_hosts_of_a_rollout_that_rests_are_overdue_as_well(state: RolloutState) -> None:
    """A host that was ordered to act runs on, whatever its rollout does."""
    view = _view()
    view.set_rollout(rollout_of(TERMS, state))

    assert next_time(view) == ACK_DUE


def test_nothing_is_due_in_a_rollout_that_is_forgotten() -> None:
    """Nothing is known of its hosts any more."""
    view = _view()
    view.set_rollout(rollout_of(TERMS, RolloutState.PRUNED))
    view.forget_rollout(ID)

    assert next_time(view) is None


def test_what_is_due_is_due_again_after_an_undoing() -> None:
    """A host that reported in a batch that failed has not reported."""
    undo = UndoLog()
    view = _view(undo)
    mark = undo.mark()
    for name in HOSTS:
        view.set_queued(ID, name, False)
        view.set_host(host_of(TERMS, name, HostState.CONVERGED))
    assert next_time(view) is None
    assert due_by_time(view, SWITCH_DUE, _never) == ()
    undo.undo_to(mark)

    assert next_time(view) == ACK_DUE
    assert len(due_by_time(view, SWITCH_DUE, _never)) == 2


def test_what_became_due_later_is_not_due_after_an_undoing() -> None:
    """The time that was noted for it is not current any more."""
    undo = UndoLog()
    view = view_of(TERMS, undo=undo)
    mark = undo.mark()
    view.set_queued(ID, "web-1", True, NOW)
    assert next_time(view) == ACK_DUE
    undo.undo_to(mark)

    assert next_time(view) is None


def test_what_is_due_after_an_amendment_is_due_to_the_members() -> None:
    """A host that left is not overdue, and the others are as before."""
    view = _view()
    view.amend(
        evolve(terms_of(waves=(HOSTS[1:],), allowed=(2,)), deadlines=TERMS.deadlines, retry=RETRY)
    )

    (event,) = due_by_time(view, ACK_DUE, _never)
    assert isinstance(event, HostsLapsed)
    assert event.hosts == ("web-2",)


def test_asking_costs_what_is_due_and_not_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred hosts that switch, the one that is overdue is looked at."""
    names = [f"web-{number:03}" for number in range(100)]
    terms = terms_of(waves=(names,), deadlines=Deadlines(activation=Deadline(20, AtDeadline.FAIL)))
    view = view_of(terms)
    for number, name in enumerate(names):
        acked = NOW + number * MINUTE
        view.set_host(evolve(host_of(terms, name, HostState.ACTIVATING), dispatch_acked_at=acked))
    looked_at: list[str] = []
    due_of = RolloutBook.due_of

    def noting(self: RolloutBook, hostname: str, rollout: object) -> object:
        looked_at.append(hostname)
        return due_of(self, hostname, view.rollout(terms.rollout_id))

    monkeypatch.setattr(RolloutBook, "due_of", noting)
    due_by_time(view, SWITCH_DUE, _never)

    assert looked_at == ["web-000"]


@pytest.mark.parametrize("ask", [next_time, slots_due, due_by_time], ids=lambda each: each.__name__)
def test_wrong_arguments_are_refused_by_name(ask: Callable[..., object]) -> None:
    """All of them at once, with the function that was called."""
    arguments = {"view": "view"} if ask is next_time else {"view": "view", "now": "now"}
    more = {"last_heard": _never} if ask is due_by_time else {}
    with pytest.raises(InvalidValue) as refusal:
        ask(**arguments, **more)
    assert refusal.value.what == ask.__name__
    assert [problem.path for problem in refusal.value.problems] == [*arguments]
