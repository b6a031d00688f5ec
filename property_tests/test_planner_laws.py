"""Laws of the planner: what holds after any history of any fleet."""

from typing import assert_never

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_state_machine.planner.action import (
    DeferDispatch,
    Gate,
    GateBlock,
    OpenRollout,
    PlanAction,
    QueueDispatch,
    WithdrawDispatch,
)
from nixfleet_state_machine.planner.plan import explain, plan_next, replan
from nixfleet_state_machine.planner.progress import due_rollout_events
from tests.planner.history import History
from tests.planner.naive_planner import (
    Decision,
    naive_plan,
    naive_progress,
    overfull,
    overpaced,
)
from tests.planner.world import NOW, HostKey, reading

lengths = st.integers(5, 20)
Told = dict[HostKey, DeferDispatch]


@given(data=st.data(), length=lengths)
def test_planning_over_the_kept_view_and_a_fresh_one_gives_the_same(
    data: st.DataObject, length: int
) -> None:
    """A view that was kept reads, and plans, as one made of the final records."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        history.carry_out(_full_plan(history))
    fresh = history.world.fresh_view()

    assert reading(history.view) == reading(fresh)
    assert _full_plan(history) == plan_next(fresh, history.world.quarantines, NOW)


@given(data=st.data(), length=lengths)
def test_planning_agrees_with_a_naive_planner(data: st.DataObject, length: int) -> None:
    """Plain scans, written from the design's table alone, come to the same decisions in the same order."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        full = _full_plan(history)
        assert [_plain(action) for action in full] == naive_plan(history.world, NOW)
        history.carry_out(full)


@given(data=st.data(), length=lengths)
def test_replanning_what_was_stirred_adds_up_to_the_whole_plan(
    data: st.DataObject, length: int
) -> None:
    """Replans decide what whole plans do, and what each waiting host was told last is what they say."""
    history = History.begun(data)
    told: Told = {}
    for _ in range(length):
        history.happen()
        history.carry_out(_replanned(history, told))


@given(data=st.data(), length=lengths, lost=st.integers(1, 8))
def test_taking_back_what_happened_restores_the_view(
    data: st.DataObject, length: int, lost: int
) -> None:
    """Undone to a mark, a view reads as before, and replans go on as if nothing had happened."""
    history = History.begun(data)
    told: Told = {}
    for _ in range(length):
        history.happen()
        history.carry_out(_replanned(history, told))
    mark, before = history.undo.mark(), reading(history.view)
    world, told_then = history.world.copy(), dict(told)
    for _ in range(lost):
        history.happen()
        history.carry_out(_replanned(history, told))
    history.undo.undo_to(mark)
    history.world = world

    assert reading(history.view) == before
    for _ in range(3):
        history.carry_out(_replanned(history, told_then))
        history.happen()


@given(data=st.data(), length=lengths)
def test_replanning_again_and_again_comes_to_rest(data: st.DataObject, length: int) -> None:
    """Carried out, a plan is followed by less and less to say, and then by nothing."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        history.carry_out(replan(history.view, history.world.quarantines, NOW))
    for _ in range(10):
        history.carry_out(replan(history.view, history.world.quarantines, NOW))

    assert replan(history.view, history.world.quarantines, NOW) == ()


@given(data=st.data(), length=lengths)
def test_dispatching_breaks_no_budget(data: st.DataObject, length: int) -> None:
    """Each dispatch, once it is queued, leaves the budgets of its host no more in flight than they allow."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        for action in replan(history.view, history.world.quarantines, NOW):
            history.carry_out((action,))
            # Another rollout may allow more, and use it afterwards.
            if isinstance(action, QueueDispatch):
                assert overfull(history.world, (action.rollout_id, action.host)) == []


@given(data=st.data(), length=lengths)
def test_dispatching_keeps_to_ramp_and_minute(data: st.DataObject, length: int) -> None:
    """Each dispatch leaves no more hosts under way than the ramp says, and no more beginnings than a minute has."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        for action in replan(history.view, history.world.quarantines, NOW):
            history.carry_out((action,))
            # Another rollout may begin more in a minute, and do so afterwards.
            if isinstance(action, QueueDispatch):
                assert overpaced(history.world, (action.rollout_id, action.host)) == []


@given(data=st.data(), length=lengths)
def test_dispatching_leaves_paused_halted_and_quarantined_alone(
    data: st.DataObject, length: int
) -> None:
    """After each plan nothing is in a queue that a pause, a halt, a successor or a quarantine forbids."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        history.carry_out(replan(history.view, history.world.quarantines, NOW))
        for rollout_id, host in history.world.queued:
            if history.view.is_handed_out(rollout_id, host):
                record = history.world.rollouts[rollout_id]
                quarantined = history.world.quarantines.get(record.channel, ())
                assert record.state.is_live or history.view.is_served_late(rollout_id, host)
                assert not record.state.is_halted
                scopes = {rollout_id, record.channel, f"host:{host}"}
                assert not scopes & history.world.holds.keys()
                assert history.world.hosts[rollout_id, host].target_closure not in quarantined


@given(data=st.data(), length=lengths)
def test_explaining_a_host_names_first_what_the_plan_names(
    data: st.DataObject, length: int
) -> None:
    """What a deferral says comes first in the explanation; a host that goes has nothing to explain."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        for action in _full_plan(history):
            if isinstance(action, QueueDispatch | DeferDispatch):
                blocks = _explained(history, action)
                assert _is_explained(action, [(block.gate, block.reason) for block in blocks])
        history.carry_out(replan(history.view, history.world.quarantines, NOW))


@given(data=st.data(), length=lengths)
def test_progress_agrees_with_a_look_at_every_host(data: st.DataObject, length: int) -> None:
    """What the counts say is due is what the records say, after any history."""
    history = History.begun(data)
    for _ in range(length):
        history.happen()
        for rollout_id in history.open_rollouts():
            due = due_rollout_events(history.view, rollout_id, NOW)
            assert [*due] == naive_progress(history.world, rollout_id, NOW)


def _explained(history: History, action: QueueDispatch | DeferDispatch) -> list[GateBlock]:
    blocks = explain(history.view, history.world.quarantines, action.host)
    return [*blocks[action.rollout_id]]


def _is_explained(action: QueueDispatch | DeferDispatch, blocks: list[tuple[Gate, str]]) -> bool:
    match action:
        case QueueDispatch():
            return blocks == []
        case DeferDispatch(gate=Gate.DISRUPTION_BUDGET):
            # The plan itself may have taken the slots that nobody has taken yet.
            return all(gate is not Gate.HOST_EDGE for gate, _ in blocks[:1])
        case DeferDispatch():
            return blocks[0] == (action.gate, action.reason)
        case _:
            assert_never(action)


def _full_plan(history: History) -> tuple[PlanAction, ...]:
    return plan_next(history.view, history.world.quarantines, NOW)


def _replanned(history: History, told: Told) -> tuple[PlanAction, ...]:
    """Replan, note what hosts are told, and compare with the whole plan."""
    full = plan_next(history.world.fresh_view(), history.world.quarantines, NOW)
    again = replan(history.view, history.world.quarantines, NOW)
    told |= {_key(action): action for action in again if isinstance(action, DeferDispatch)}
    deferrals = {_key(action): action for action in full if isinstance(action, DeferDispatch)}

    assert _without_deferrals(again) == _without_deferrals(full)
    assert deferrals == {key: told.get(key) for key in deferrals}
    answered = [_key(action) for action in again if isinstance(action, DeferDispatch)]
    assert len(answered) == len(set(answered))
    assert set(answered) <= deferrals.keys()
    return again


def _key(action: DeferDispatch) -> HostKey:
    return action.rollout_id, action.host


def _without_deferrals(plan: tuple[PlanAction, ...]) -> list[PlanAction]:
    return [action for action in plan if not isinstance(action, DeferDispatch)]


def _plain(action: PlanAction) -> Decision:
    match action:
        case OpenRollout():
            return "open", action.rollout_id, action.channel, action.target_ref
        case QueueDispatch():
            due = action.soak_due_at
            return (
                "queue",
                action.rollout_id,
                action.host,
                action.target_closure,
                due,
                action.attempt,
            )
        case DeferDispatch():
            return "defer", action.rollout_id, action.host, action.gate
        case WithdrawDispatch():
            return "withdraw", action.rollout_id, action.host, action.gate
        case _:
            assert_never(action)
