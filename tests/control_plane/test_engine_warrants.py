"""The control plane relays warrants: it tells operators what a host would refuse, and decides who goes when."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.engine.warrants import relayed_warrants
from nixfleet_control_plane.messages.inputs import CommandOutcome, RelayWarrant
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_proto.agent_event import Recalled, RollbackComplete
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import ClosureRule, RecallStep, SignedWarrant, Warrant
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import OPERATOR_KEY, START, Layout
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost

R1 = RolloutId("stable@r1")
GRANTED = Layout(policy=RolloutPolicy(recall=Recall.OPERATOR))
RECALL = Warrant(
    "order-1", R1, ClosureRule.PRIOR, "ada", "it eats disks", START, START + timedelta(hours=8)
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


def relay(
    warrant: Warrant = RECALL, key: SigningKey = OPERATOR_KEY, by: str = "ada"
) -> RelayWarrant:
    text = encode_signed_warrant(sign_warrant(warrant, key)).decode()
    return RelayWarrant(warrant.rollout_id, text, by, warrant.reason)


def converged(scratch: Path, layout: Layout = GRANTED) -> ScriptedControlPlane:
    """All hosts of stable@r1 are Converged, and it is Terminal."""
    control_plane = ScriptedControlPlane(scratch, layout)
    control_plane.publish("r1")
    for host in layout.hosts:
        ScriptedHost(control_plane, R1, host).finish()
    assert control_plane.rollout(R1).state is RolloutState.TERMINAL
    return control_plane


def told(control_plane: ScriptedControlPlane, host: str) -> tuple[SignedWarrant, ...]:
    record = control_plane.mirrored(R1, host)
    last_seqs: dict[str, int] = {R1: record.last_event_seq}
    reply = control_plane.heartbeat(host, last_seqs, record.current_closure or "old")
    return reply.warrants


def recalled(control_plane: ScriptedControlPlane, host: str) -> None:
    """The host obeyed the order, and is back."""
    seq, now = control_plane.mirrored(R1, host).last_event_seq, control_plane.now
    facts = Recalled("order-1", now, seq + 1), RollbackComplete("release-0", 0, now, seq + 2)
    assert control_plane.hear(host, R1, *facts) == EventsOutcome(2)


def test_a_recall_aborts_its_rollout_and_is_in_the_log_as_it_was_signed(scratch: Path) -> None:
    """What is taken back does not go out again meanwhile; the log proves whose order it was."""
    control_plane = converged(scratch)
    assert control_plane.command(relay()).refusal is None

    assert control_plane.rollout(R1).state is RolloutState.ABORTED
    assert control_plane.logged(Commanded)[-1] == Commanded(relay())
    assert not control_plane.check_store().differences


def test_the_newest_wave_is_told_first(scratch: Path) -> None:
    """A host of an earlier wave waits until those of the later ones are back, as far as they are heard of."""
    control_plane = converged(scratch)
    control_plane.command(relay())

    assert told(control_plane, "web-01") == ()
    assert [it.warrant for it in told(control_plane, "web-02")] == [RECALL]
    for host in ("web-02", "web-03"):
        recalled(control_plane, host)
    assert [it.warrant for it in told(control_plane, "web-01")] == [RECALL]


def test_nobody_waits_for_a_host_of_a_later_wave_that_is_silent(scratch: Path) -> None:
    """It gets the order when it is heard of again, if that is still good."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    told(control_plane, "web-02")
    recalled(control_plane, "web-02")
    control_plane.wait(minutes=4)

    assert [it.warrant for it in told(control_plane, "web-01")] == [RECALL]
    assert [it.warrant for it in told(control_plane, "web-03")] == [RECALL]


def test_a_recall_keeps_the_budgets(scratch: Path) -> None:
    """As many hosts go back at once as may be in flight; a host that was told is told again."""
    control_plane = converged(scratch, evolve(GRANTED, max_in_flight=1))
    control_plane.command(relay())

    assert told(control_plane, "web-02") != ()
    assert told(control_plane, "web-03") == ()
    assert told(control_plane, "web-02") != ()
    recalled(control_plane, "web-02")
    assert told(control_plane, "web-03") != ()


def test_pauses_hold_no_way_back(scratch: Path) -> None:
    """A hold stops beginnings only."""
    control_plane = converged(scratch)
    control_plane.pause("stable")
    control_plane.command(relay())

    assert told(control_plane, "web-03") != ()


def test_a_host_that_is_back_is_told_no_more(scratch: Path) -> None:
    """Nor one that never took the release, nor one that the order does not name."""
    control_plane = ScriptedControlPlane(scratch, GRANTED)
    control_plane.publish("r1")
    ScriptedHost(control_plane, R1, "web-01").finish()
    control_plane.command(relay(evolve(RECALL, hosts=("web-01",))))

    assert told(control_plane, "web-02") == ()
    assert told(control_plane, "web-01") != ()
    recalled(control_plane, "web-01")
    assert told(control_plane, "web-01") == ()
    assert control_plane.mirrored(R1, "web-01").state is HostState.REVERTED


def test_an_order_that_expired_is_relayed_no_more(scratch: Path) -> None:
    """A host would refuse it."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    control_plane.wait(minutes=8 * 60)

    assert told(control_plane, "web-03") == ()


def test_a_restart_goes_on_relaying(scratch: Path) -> None:
    """Warrants are a view of the log."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    before: State = control_plane.state
    control_plane.restart_control_plane()

    assert control_plane.state.warrants == before.warrants
    assert told(control_plane, "web-03") != ()


def test_the_next_release_ends_the_relaying(scratch: Path) -> None:
    """Its hosts follow another rollout."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    assert relayed_warrants(control_plane.state) != ()
    control_plane.publish("r2")

    assert relayed_warrants(control_plane.state) == ()
    assert told(control_plane, "web-03") == ()
    assert not control_plane.check_store().differences


BAD = {
    "forged": (relay(key=SigningKey.generate()), "is not operator 'ada''s"),
    "by another": (relay(by="bob"), "the warrant is of operator 'ada', and the request of 'bob'"),
    "expired": (
        relay(evolve(RECALL, issued_at=START - timedelta(hours=2), expires_at=START)),
        "it expired at",
    ),
    "for another rollout": (
        evolve(relay(), rollout_id=RolloutId("stable@r2")),
        "the warrant is for stable@r1, and the request for stable@r2",
    ),
    "unknown": (relay(evolve(RECALL, rollout_id=RolloutId("stable@r9"))), "no rollout stable@r9"),
    "of strangers": (relay(evolve(RECALL, hosts=("db-01",))), "expected hosts of stable@r1"),
    "unreadable": (RelayWarrant(R1, "{}", "ada", "why"), "signed warrant"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_warrant_that_hosts_would_refuse_is_refused_at_once(bad: str, scratch: Path) -> None:
    """The operator is told why, and nothing has changed."""
    control_plane = converged(scratch)
    command, reason = BAD[bad]
    before, rows = likeness(control_plane.state), len(control_plane.log())
    refusal = control_plane.command(command).refusal

    assert refusal is not None
    assert reason in refusal
    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)


def test_a_recall_that_the_policy_does_not_grant_is_refused(scratch: Path) -> None:
    """`recall` is signed by CI; absent is never."""
    control_plane = converged(scratch, Layout())

    assert 'says recall = "never"' in str(control_plane.command(relay()).refusal)


def test_an_order_is_relayed_once(scratch: Path) -> None:
    """A second copy of the request changes nothing."""
    control_plane = converged(scratch)
    control_plane.command(relay())

    assert control_plane.command(relay()).refusal == "order order-1 is relayed already"


def test_a_recalled_fact_is_taken_from_every_state_in_which_a_host_has_the_release(
    scratch: Path,
) -> None:
    """The mirror goes where the host went."""
    control_plane = ScriptedControlPlane(scratch, GRANTED)
    control_plane.publish("r1")
    host = ScriptedHost(control_plane, R1, "web-01")
    host.soak()
    host.tell(lambda seq: Recalled("order-1", control_plane.now, seq))

    assert control_plane.mirrored(R1, "web-01").state is HostState.FAILED
    assert control_plane.mirrored(R1, "web-01").is_rolling_back


def test_an_order_of_a_rollout_that_is_over_is_not_relayed_again(scratch: Path) -> None:
    """Hosts that obeyed it refuse it in any rollout: who would sign it again is told so, also after a restart."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    control_plane.wait(minutes=1)
    r2 = control_plane.publish("r2")
    assert control_plane.rollout(R1).state is RolloutState.SUPERSEDED
    assert told(control_plane, "web-03") == ()
    again = relay(evolve(RECALL, rollout_id=r2))
    expected = (
        "order order-1 was for stable@r1, which is over: hosts that obeyed it refuse it again, "
        "so sign another order"
    )
    assert control_plane.command(again).refusal == expected
    assert not control_plane.check_store().differences
    before = likeness(control_plane.state)
    control_plane.restart_control_plane()

    assert likeness(control_plane.state) == before
    assert control_plane.command(again).refusal == expected
    assert control_plane.command(relay(evolve(RECALL, rollout_id=r2, order_id="order-2"))) == (
        CommandOutcome()
    )


def test_orders_of_rollouts_that_are_over_are_forgotten_when_they_have_expired(
    scratch: Path,
) -> None:
    """So they do not add up: the next order that is taken removes them."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    r2 = control_plane.publish("r2")
    control_plane.wait(minutes=9 * 60)
    assert list(control_plane.state.warrants) == ["order-1"]
    now = control_plane.now
    later = evolve(
        RECALL,
        rollout_id=r2,
        order_id="order-2",
        issued_at=now,
        expires_at=now + timedelta(hours=1),
    )
    assert control_plane.command(relay(later)) == CommandOutcome()

    assert list(control_plane.state.warrants) == ["order-2"]
    assert not control_plane.check_store().differences


def test_how_far_hosts_are_with_an_order_is_counted_and_told_for_each(scratch: Path) -> None:
    """Who waits for its turn, who was told, who refuses, who goes, who is back."""
    control_plane = converged(scratch)
    assert control_plane.engine.warrants() == ()
    control_plane.command(relay())
    now = control_plane.now

    def step(host: str) -> RecallStep:
        (recall,) = control_plane.engine.recalls_of(host, now)
        assert recall.warrant == RECALL
        return recall.step

    (status,) = control_plane.engine.warrants()
    assert (status.warrant, status.to_go, status.going, status.refusing) == (RECALL, 3, 0, 0)
    assert [step(host) for host in ("web-01", "web-02")] == [RecallStep.WAITS] * 2
    told(control_plane, "web-02")
    assert [step(host) for host in ("web-01", "web-02")] == [RecallStep.WAITS, RecallStep.TOLD]
    seq = control_plane.mirrored(R1, "web-02").last_event_seq
    control_plane.hear("web-02", R1, Recalled("order-1", now, seq + 1))
    assert step("web-02") is RecallStep.GOING
    (status,) = control_plane.engine.warrants()
    assert (status.to_go, status.going) == (2, 1)
    control_plane.hear("web-02", R1, RollbackComplete("release-0", 0, now, seq + 2))
    assert step("web-02") is RecallStep.BACK
    now += timedelta(hours=8)
    assert step("web-03") is RecallStep.EXPIRED


def test_a_host_that_waits_for_its_turn_says_for_whom(scratch: Path) -> None:
    """Not for web-02 while that is silent; then it is the first by name. A host of the last wave waits for nobody."""
    control_plane = converged(scratch)
    control_plane.command(relay())

    def awaited(host: str) -> str | None:
        (recall,) = control_plane.engine.recalls_of(host, control_plane.now)
        return recall.awaited

    assert [awaited(host) for host in ("web-01", "web-02")] == ["web-03", None]
    told(control_plane, "web-02")
    assert awaited("web-01") == "web-02"
    recalled(control_plane, "web-02")
    assert awaited("web-01") == "web-03"
    told(control_plane, "web-03")
    recalled(control_plane, "web-03")
    assert awaited("web-01") is None


def test_the_same_recall_again_is_nothing_to_do(scratch: Path) -> None:
    """One that lasts longer is not the same, nor one to other hosts, nor one where a host refuses the first."""
    control_plane = converged(scratch)
    first = evolve(RECALL, hosts=("web-02", "web-03"))
    assert control_plane.command(relay(first)) == CommandOutcome()
    second = evolve(first, order_id="order-2", hosts=("web-03",))
    until = "nothing to do: order order-1 of ada says so until 2026-05-16T09:00:00Z; "
    assert str(control_plane.command(relay(second)).refusal).startswith(until)

    longer = evolve(second, expires_at=second.expires_at + timedelta(hours=1))
    assert control_plane.command(relay(longer)) == CommandOutcome()
    everybody = evolve(RECALL, order_id="order-3")
    assert control_plane.command(relay(everybody)) == CommandOutcome()
    control_plane.state.refusing_recall.add((R1, "web-03"))
    fourth = evolve(second, order_id="order-4")
    assert control_plane.command(relay(fourth)) == CommandOutcome()


def test_a_recall_of_hosts_that_are_back_or_never_took_it_is_nothing_to_do(scratch: Path) -> None:
    """By name; the rollout goes on, and a recall of all of it is taken as long as a host may have begun unheard."""
    control_plane = ScriptedControlPlane(scratch, GRANTED)
    control_plane.publish("r1")
    never = evolve(RECALL, hosts=("web-02", "web-03"))
    assert control_plane.command(relay(never)).refusal == (
        "nothing to do: of web-02, web-03 none has stable@r1 to go back from; abort the rollout to have no further "
        "host take it"
    )
    assert control_plane.rollout(R1).state is not RolloutState.ABORTED
    for host in GRANTED.hosts:
        ScriptedHost(control_plane, R1, host).finish()
    one = evolve(RECALL, hosts=("web-03",))
    assert control_plane.command(relay(one)) == CommandOutcome()
    recalled(control_plane, "web-03")
    control_plane.wait(minutes=60 * 9)
    now = control_plane.now
    again = evolve(one, order_id="order-2", issued_at=now, expires_at=now + timedelta(hours=1))
    assert control_plane.command(relay(again)).refusal == (
        "nothing to do: of web-03 none has stable@r1 to go back from"
    )


def test_an_order_to_one_host_is_no_order_to_another(scratch: Path) -> None:
    """Neither counted nor told."""
    control_plane = converged(scratch)
    control_plane.command(relay(evolve(RECALL, hosts=("web-02",))))
    (status,) = control_plane.engine.warrants()

    assert status.to_go == 1
    assert control_plane.engine.recalls_of("web-01", control_plane.now) == ()
