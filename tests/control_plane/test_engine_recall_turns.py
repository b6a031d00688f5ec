"""Who goes back when, by a warrant: a host that will not be back keeps no other one from its turn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import Recalled, RollbackComplete
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.transport import ActingRefusal, Heartbeat, HeartbeatReply
from tests.control_plane.test_engine_warrants import (
    GRANTED,
    R1,
    RECALL,
    converged,
    recalled,
    relay,
    told,
)
from tests.engines import scripted_host
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


def one_at_a_time(scratch: Path) -> ScriptedControlPlane:
    """A recall of three hosts, of which one may be in flight."""
    control_plane = converged(scratch, evolve(GRANTED, max_in_flight=1))
    assert control_plane.command(relay()).refusal is None
    return control_plane


def roll_back_in_vain(control_plane: ScriptedControlPlane, host: str) -> None:
    told(control_plane, host)
    seq, now = control_plane.mirrored(R1, host).last_event_seq, control_plane.now
    facts = (
        scripted_recall(control_plane, seq + 1),
        RollbackComplete("r1-" + host, 1, now, seq + 2, "no space"),
    )
    control_plane.hear(host, R1, *facts)


def scripted_recall(control_plane: ScriptedControlPlane, seq: int) -> Recalled:
    return Recalled(RECALL.order_id, control_plane.now, seq)


def contradict_itself(control_plane: ScriptedControlPlane, host: str) -> None:
    told(control_plane, host)
    seq = control_plane.mirrored(R1, host).last_event_seq
    for number in range(5):
        control_plane.heartbeat(host, {R1: seq}, f"closure-{number}")
    assert host in control_plane.state.forked


def refuse(control_plane: ScriptedControlPlane, host: str) -> HeartbeatReply:
    told(control_plane, host)
    return refuse_again(control_plane, host)


def refuse_again(control_plane: ScriptedControlPlane, host: str) -> HeartbeatReply:
    record = control_plane.mirrored(R1, host)
    refusal = ActingRefusal(R1, "the journal was lost", control_plane.now)
    last_seqs: dict[str, int] = {R1: record.last_event_seq}
    running = str(record.current_closure)
    heartbeat = Heartbeat(host, running, FrozenMap(last_seqs), (refusal,))
    return control_plane.ask_for(HeartbeatReply, heartbeat)


def fall_silent(control_plane: ScriptedControlPlane, host: str) -> None:
    told(control_plane, host)
    control_plane.wait(minutes=4)


NOT_BACK: dict[str, Callable[[ScriptedControlPlane, str], object]] = {
    "its rollback failed": roll_back_in_vain,
    "it is held for a contradiction": contradict_itself,
    "it refused the order": refuse,
    "it is silent": fall_silent,
}


@pytest.mark.parametrize("case", NOT_BACK)
def test_a_host_that_will_not_be_back_holds_no_earlier_wave(case: str, scratch: Path) -> None:
    """The last of the newest wave is stuck: the wave before it has its turn, well before the order expires."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    told(control_plane, "web-03")
    told(control_plane, "web-02")
    recalled(control_plane, "web-03")
    assert told(control_plane, "web-01") == ()
    NOT_BACK[case](control_plane, "web-02")

    assert [it.warrant for it in told(control_plane, "web-01")] == [RECALL]


@pytest.mark.parametrize("case", NOT_BACK)
def test_a_host_that_will_not_be_back_takes_no_slot(case: str, scratch: Path) -> None:
    """A budget of one: the next host of its wave has its turn."""
    control_plane = one_at_a_time(scratch)
    told(control_plane, "web-02")
    assert told(control_plane, "web-03") == ()
    NOT_BACK[case](control_plane, "web-02")

    assert told(control_plane, "web-03") != ()


def test_a_host_that_ran_its_target_before_its_dispatch_is_not_recalled(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to go back to and would refuse: nobody waits for it."""
    control_plane = ScriptedControlPlane(scratch, GRANTED)
    control_plane.publish("r1")
    ScriptedHost(control_plane, R1, "web-01").finish()
    with monkeypatch.context() as patch:
        patch.setattr(scripted_host, "BEFORE", "r1-web-02")
        ScriptedHost(control_plane, R1, "web-02").finish()
    ScriptedHost(control_plane, R1, "web-03").finish()
    control_plane.command(relay())
    recalled(control_plane, "web-03")

    assert told(control_plane, "web-02") == ()
    assert [it.warrant for it in told(control_plane, "web-01")] == [RECALL]


def test_a_host_that_is_held_for_a_contradiction_is_handed_its_warrants(scratch: Path) -> None:
    """A hold holds no way back; each machine that has its key verifies the order by itself."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    contradict_itself(control_plane, "web-02")

    assert [it.warrant for it in told(control_plane, "web-02")] == [RECALL]


def test_a_refusal_that_ends_makes_others_wait_again(scratch: Path) -> None:
    """The order is relayed to a host that refuses it: what was wrong may be mended."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    assert refuse(control_plane, "web-02").warrants != ()
    assert refuse_again(control_plane, "web-02").warrants != ()
    told(control_plane, "web-02")

    assert told(control_plane, "web-01") == ()


def test_nobody_waits_for_a_rollback_that_takes_longer_than_an_hour(scratch: Path) -> None:
    """That it failed may have been heard by the process before this one."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    recalled(control_plane, "web-03")
    told(control_plane, "web-02")
    seq = control_plane.mirrored(R1, "web-02").last_event_seq
    control_plane.hear("web-02", R1, scripted_recall(control_plane, seq + 1))
    control_plane.wait(minutes=60)
    told(control_plane, "web-02")
    assert told(control_plane, "web-01") == ()
    control_plane.wait(minutes=1)
    told(control_plane, "web-02")

    assert told(control_plane, "web-01") != ()


def test_a_failed_rollback_is_known_after_a_restart(scratch: Path) -> None:
    """As far as the rows behind the cache say."""
    control_plane = converged(scratch)
    control_plane.command(relay())
    recalled(control_plane, "web-03")
    roll_back_in_vain(control_plane, "web-02")
    control_plane.restart_control_plane()
    told(control_plane, "web-02")

    assert told(control_plane, "web-01") != ()
