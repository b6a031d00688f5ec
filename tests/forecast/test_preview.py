"""What a command would do: who begins, what is taken back, and where rollouts stop. Nothing changes by asking."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    ExcuseHosts,
    PauseScope,
    ResumeScope,
    RetireQuarantine,
    SkipHosts,
)
from nixfleet_forecast.orders import Order
from nixfleet_forecast.preview import Asked, Statement, preview
from nixfleet_proto.agent_event import Postponed, ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.steering.approval import Decision
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_runtime.http.previews import Preview
from nixfleet_state_machine.planner.holds.scope import parse_scope
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, TWO_WAVES, SlowFleet, lived, read_from

R3 = RolloutId("stable@r3")


@pytest.fixture
def fleet() -> Iterator[SlowFleet]:
    """A fleet of ten hosts, at most four in flight, on which two releases converged."""
    with (
        scratch_directory() as directory,
        closing(lived(directory, evolve(TWO_WAVES, max_in_flight=4))) as made,
    ):
        yield made


def _preview(fleet: SlowFleet, asked: Asked) -> Preview:
    return preview(read_from(fleet.database).subject, asked, fleet.now)


def _broken(fleet: SlowFleet) -> None:
    """Let the canaries' closure fail, so that the rollout halts and the closure is barred."""
    layout = evolve(fleet.layout, closure="r3-all")
    fleet.behaviour = Behaviour(
        probe={"r3-all": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    fleet.publish("r3", layout)
    fleet.pass_time(minutes=20)
    assert fleet.rollout(R3).state is RolloutState.REVERTED


def test_clearing_alone_frees_no_host_while_the_closure_is_barred(fleet: SlowFleet) -> None:
    """The sentence says what holds them."""
    _broken(fleet)

    found = _preview(fleet, ClearRollout(R3, "ada", "try"))

    assert found.refused is None
    assert (found.begin, found.begin_in_all) == (0, 0)
    assert found.sentences[0].startswith("no host begins at once: ")
    assert "quarantined" in found.sentences[0]


def test_retiring_alone_frees_no_host_while_the_rollout_is_halted(fleet: SlowFleet) -> None:
    """Both are needed, and either says so."""
    _broken(fleet)

    found = _preview(fleet, RetireQuarantine("stable", "r3-all", "ada", "try"))

    assert found.begin == 0
    assert any("halt" in sentence for sentence in found.sentences), found.sentences


def test_resuming_says_how_many_begin_and_how_many_are_in_flight(fleet: SlowFleet) -> None:
    """The budget is part of it."""
    fleet.pause("stable")
    fleet.publish("r3")
    fleet.pass_time(minutes=1)

    found = _preview(fleet, ResumeScope(parse_scope("stable"), "ada", "go"))

    assert (found.begin, found.begin_in_all, found.begin_without) == (3, 10, 0)
    assert found.in_flight_max == 4
    assert found.sentences[0] == "3 hosts begin at once, at most 4 in flight"
    (rollout,) = found.rollouts
    assert (rollout.comes_to, rollout.comes_to_without) == (
        RolloutState.TERMINAL,
        RolloutState.OPENING,
    )
    assert rollout.done is not None
    assert rollout.done.p50 is not None


def test_pausing_takes_back_what_has_not_begun(fleet: SlowFleet) -> None:
    """And names how many hosts do not begin because of it."""
    fleet.publish("r3")

    found = _preview(fleet, PauseScope(parse_scope("stable"), "ada", "wait"))

    assert found.withdrawn == 3
    assert "3 dispatches are taken back, of hosts that have not begun" in found.sentences
    assert any(
        "10 hosts that would begin" in it or "7 hosts that would begin" in it
        for it in found.sentences
    )
    (rollout,) = found.rollouts
    assert rollout.comes_to_without is RolloutState.TERMINAL
    assert rollout.waits


def test_an_approval_that_is_asked_for_lets_the_wave_begin(fleet: SlowFleet) -> None:
    """It is judged as one that is signed; one of another operator is refused by name."""
    approvals = WaveGuards(approvals=Approvals(1, ("ada",)))
    fleet.publish("r3", evolve(fleet.layout, guards=(WaveGuards(), approvals)))
    fleet.pass_time(minutes=20)

    granted = _preview(fleet, Statement(R3, 1, Decision.APPROVE, "ada"))
    refused = _preview(fleet, Statement(R3, 1, Decision.APPROVE, "eve"))
    denied = _preview(fleet, Statement(R3, 1, Decision.DENY, "ada"))

    assert (granted.begin, granted.begin_in_all) == (4, 7)
    assert refused.refused is not None
    assert "ada" in refused.refused
    assert denied.rollouts[0].comes_to.is_halted


def test_a_command_that_would_be_refused_says_why(fleet: SlowFleet) -> None:
    """In the words of the refusal."""
    fleet.publish("r3")

    found = _preview(fleet, ClearRollout(R3, "ada", "why"))

    assert found.refused is not None
    assert "Reverted or Failed" in found.refused
    assert found.sentences == (f"it is refused: {found.refused}",)


def test_a_host_that_was_heard_of_is_not_skipped(fleet: SlowFleet) -> None:
    """When it was is told with the question: the log does not say."""
    fleet.publish("r3")
    fleet.away(TEN[0])
    fleet.pass_time(minutes=20)
    asked = SkipHosts(R3, frozenset({TEN[0]}), "ada", "it is off")
    subject = read_from(fleet.database).subject

    silent = preview(subject, asked, fleet.now)
    heard = preview(subject, asked, fleet.now, {TEN[0]: fleet.now - timedelta(minutes=1)})

    assert silent.refused is None
    assert silent.begin > 0
    assert heard.refused is not None
    assert "heard of 60 s ago" in heard.refused


def test_an_abort_and_an_excuse_say_where_the_rollout_comes_to(fleet: SlowFleet) -> None:
    """One ends it, the other lets it go on without a host."""
    fleet.publish("r3")
    fleet.away(TEN[0])
    fleet.pass_time(minutes=20)

    aborted = _preview(fleet, AbortRollout(R3, "ada", "bad"))
    excused = _preview(fleet, ExcuseHosts(R3, frozenset({TEN[0]}), "ada", "gone"))

    assert aborted.rollouts[0].comes_to is RolloutState.ABORTED
    assert aborted.rollouts[0].comes_to_without is RolloutState.TERMINAL
    assert excused.rollouts[0].comes_to is RolloutState.TERMINAL
    assert excused.begin == 3  # One of four slots is taken by the host that may still come.


def test_a_statement_on_a_rollout_that_is_not_there_is_refused(fleet: SlowFleet) -> None:
    """There is no manifest that it could be about."""
    found = _preview(fleet, Statement(RolloutId("stable@r9"), 1, Decision.APPROVE, "ada"))

    assert found.refused == "no rollout stable@r9 is open"


def test_asking_changes_nothing(fleet: SlowFleet) -> None:
    """The same question has the same answer, and the state is that of the log."""
    fleet.publish("r3")
    fleet.pass_time(minutes=2)
    subject, untouched = (read_from(fleet.database).subject for _ in range(2))
    asked = PauseScope(parse_scope("stable"), "ada", "wait")

    first = preview(subject, asked, fleet.now)

    assert preview(subject, asked, fleet.now) == first
    assert subject.state.view == untouched.state.view
    assert subject.state.dispatches == untouched.state.dispatches
    assert subject.state.head_seq == untouched.state.head_seq


RECALLABLE = RolloutPolicy(recall=Recall.OPERATOR)


def test_a_recall_says_which_host_goes_back_to_what_and_until_when(fleet: SlowFleet) -> None:
    """And the run has them go back: the rollout is aborted, and nothing begins in it any more."""
    rollout_id = fleet.publish("r3", evolve(fleet.layout, policy=RECALLABLE))
    fleet.pass_time(minutes=30)
    until = fleet.now + timedelta(hours=2)

    found = _preview(fleet, Order(rollout_id, ClosureRule.PRIOR, (), until, "ada"))

    assert found.refused is None
    order = found.order
    assert order is not None
    assert (order.until, order.count, order.may_move, order.moved) == (until, 10, 10, 10)
    assert order.hosts[0].text == "it is Converged, and goes back to r2-web-01"
    assert found.sentences[0].endswith(
        "each of 10 hosts may go back to what it ran before this release"
    )
    assert "10 hosts go back, those of the newest wave first, within budgets" in found.sentences
    (rollout,) = found.rollouts
    assert rollout.comes_to is RolloutState.ABORTED
    assert fleet.rollout(rollout_id).state is RolloutState.TERMINAL


def test_a_recall_that_expires_at_once_moves_no_host(fleet: SlowFleet) -> None:
    """Hosts obey what is good when they hear of it."""
    rollout_id = fleet.publish("r3", evolve(fleet.layout, policy=RECALLABLE))
    fleet.pass_time(minutes=30)
    until = fleet.now + timedelta(seconds=30)

    order = _preview(fleet, Order(rollout_id, ClosureRule.PRIOR, (TEN[0],), until, "ada")).order

    assert order is not None
    assert (order.count, order.may_move, order.moved) == (1, 1, 0)


def test_an_override_lets_the_host_begin_that_its_own_lock_holds(fleet: SlowFleet) -> None:
    """Named with what the lock says; one that no lock holds is named too."""
    rollout_id = fleet.publish("r3")
    for host in TEN:
        fleet.away(host)
    lock = Postponed(fleet.now, "an operation runs", fleet.now + timedelta(days=2), 1)
    fleet.hear(TEN[0], rollout_id, lock)
    until = fleet.now + timedelta(hours=1)

    def asked(host: str) -> Preview:
        return _preview(fleet, Order(rollout_id, ClosureRule.TARGET, (host,), until, "ada"))

    locked, free = asked(TEN[0]), asked(TEN[1])

    assert locked.order is not None
    (told,) = locked.order.hosts
    assert told.text == "it begins although its lock says not now: an operation runs"
    assert (locked.order.may_move, locked.order.moved) == (1, 1)
    assert locked.sentences[0].endswith("1 host may begin although its own lock says not now")
    assert free.order is not None
    assert (free.order.may_move, free.order.moved) == (0, 0)
    assert free.sentences[0].startswith("the order moves no host now; it is good until ")


@pytest.mark.parametrize("rule", list(ClosureRule))
def test_an_order_that_is_not_relayed_says_why(fleet: SlowFleet, rule: ClosureRule) -> None:
    """In the words in which the control plane would refuse it."""
    until = fleet.now + timedelta(hours=1)
    unknown = _preview(fleet, Order(R3, rule, (), until, "ada"))
    stranger = _preview(fleet, Order(RolloutId("stable@r2"), rule, ("nobody",), until, "ada"))

    assert (unknown.refused, unknown.order) == ("no rollout stable@r3 exists", None)
    assert stranger.refused == "expected hosts of stable@r2, found nobody"
