"""The in-memory fleet: what it shows, that it repeats, and what it says about calls that make no sense."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.errors import InvalidValue, NixfleetError
from nixfleet_proto.fleet import Ramp
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_testing.fleet_in_memory import (
    Boundary,
    Channel,
    ClosureBehaviour,
    CommandRefused,
    ControlPlaneDown,
    Direction,
    FleetError,
    InMemoryFleet,
    InvalidFleet,
    InvalidTime,
    RefTwice,
    SwitchResult,
    UnknownName,
    WaveSizesDiffer,
)

UNTYPED: Any = InMemoryFleet  # as a caller without a type checker has it

TUTORIAL = """\
from nixfleet_testing.fleet_in_memory import InMemoryFleet

fleet = InMemoryFleet(hosts=6, waves=[1, 2, 3])
fleet.publish("r2", broken={"web-01"})
fleet.pass_time(minutes=15)
print(fleet)
print(fleet.trace)
"""


def test_a_broken_canary_is_rolled_back_and_everyone_else_waits() -> None:
    """The canary reverts to what it ran, and the other waves are held with the reason."""
    fleet = InMemoryFleet(hosts=6, waves=[1, 2, 3])
    rollout = fleet.publish("r2", broken={"web-01"})
    fleet.pass_time(minutes=15)

    canary, next_host = fleet.hosts["web-01"], fleet.hosts["web-02"]
    assert (canary.state, canary.running, canary.wave) == (HostState.REVERTED, "closure-0", 0)
    assert next_host.waits is not None
    assert next_host.waits.gate is Gate.ROLLOUT_HALTED
    assert fleet.rollouts[rollout].state is RolloutState.REVERTED
    table = str(fleet)
    assert "web-01  stable   0     Reverted  closure-0" in table
    assert "rollout-halted: rollout stable@r2 is halted" in table


def test_a_channel_has_a_pace() -> None:
    """On a ramp the first host goes alone, and the others after it; the rollout still reaches every host."""
    paced = Channel("stable", 4, soak_minutes=2, ramp=Ramp(1, 2), max_per_minute=2)
    with InMemoryFleet.of(paced) as fleet:
        rollout = fleet.publish("r2")
        fleet.pass_time(minutes=2)
        waiting = [name for name, host in fleet.hosts.items() if host.waits is not None]
        assert waiting == ["stable-02", "stable-03", "stable-04"]

        fleet.pass_time(minutes=20)
        assert fleet.rollouts[rollout].state is RolloutState.TERMINAL


def test_a_good_release_reaches_every_wave() -> None:
    """Every host converges on its own closure, one wave after the other."""
    with InMemoryFleet(hosts=3, waves=[1, 2], soak_minutes=2) as fleet:
        rollout = fleet.publish("r2")
        fleet.pass_time(minutes=15)

        assert fleet.rollouts[rollout].state is RolloutState.TERMINAL
        running = {name: host.running for name, host in fleet.hosts.items()}
        assert running == {f"web-0{n}": f"r2-web-0{n}" for n in (1, 2, 3)}
        converged = [line for line in fleet.trace.facts if " Converged " in line.what]
        assert [line.who for line in converged] == ["web-01", "web-02", "web-03"]
        assert converged[0].at < converged[1].at


def test_equal_calls_give_equal_traces_also_without_asserts() -> None:
    """A new process prints the same bytes, whatever the hash seed, and under `python -O`."""
    runs = [
        subprocess.run(
            [sys.executable, *flags, "-c", TUTORIAL],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        for flags, seed in (((), "1"), (("-O",), "2"))
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "Reverted" in runs[0].stdout


def test_it_needs_no_network_library() -> None:
    """The extra `runtime` is enough: no HTTP server or client, no Hypothesis, no pytest."""
    program = (
        "import sys, nixfleet_testing.fleet_in_memory\n"
        "print([it for it in ('starlette', 'uvicorn', 'httpx2', 'hypothesis', 'pytest', 'click')"
        " if it in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_probes_that_start_failing_later_fail_the_host_then() -> None:
    """A host that was healthy for two minutes of its soak is Failed, and rolled back, after that."""
    fleet = InMemoryFleet(hosts=1, soak_minutes=10)
    fleet.publish("r2", broken_after={"web-01": 2})
    fleet.pass_time(minutes=2)
    soaking = fleet.hosts["web-01"]
    fleet.pass_time(minutes=5)
    assert (soaking.state, soaking.running) == (HostState.SOAKING, "r2-web-01")
    assert fleet.hosts["web-01"].state is HostState.REVERTED


def test_a_halt_policy_leaves_the_bad_closure_running() -> None:
    """Under `halt` the host stays on the new closure, Failed."""
    fleet = InMemoryFleet(hosts=2, waves=[1, 1], on_health_failure=OnHealthFailure.HALT)
    fleet.publish("r2", broken={"web-01"})
    fleet.pass_time(minutes=10)
    host = fleet.hosts["web-01"]
    assert (host.state, host.running) == (HostState.FAILED, "r2-web-01")


def test_a_host_that_is_off_holds_the_next_wave_until_it_is_on() -> None:
    """A dispatch waits for the host; after it is switched on, the rollout completes."""
    fleet = InMemoryFleet(hosts=2, waves=[1, 1], offline={"web-01"})
    rollout = fleet.publish("r2")
    fleet.pass_time(minutes=10)
    assert "web-01 (off)" in str(fleet)
    assert fleet.hosts["web-02"].waits is not None
    fleet.switch_on("web-01")
    fleet.pass_time(minutes=15)
    assert fleet.rollouts[rollout].state is RolloutState.TERMINAL


def test_a_pause_holds_dispatches_until_it_is_resumed() -> None:
    """`explain` names the operator's hold; after `resume` the rollout goes on."""
    fleet = InMemoryFleet(hosts=1)
    rollout = fleet.publish("r2")
    fleet.pass_time(seconds=10)
    fleet.pause(reason="holidays")
    fleet.pass_time(minutes=5)
    (block,) = fleet.explain("web-01")[rollout]
    assert block.gate is Gate.OPERATOR_HOLD
    fleet.resume()
    fleet.pass_time(minutes=10)
    assert fleet.rollouts[rollout].state is RolloutState.TERMINAL


def test_a_cleared_rollout_continues_without_the_excused_host() -> None:
    """The hosts after a failed canary converge once an operator has cleared the rollout."""
    fleet = InMemoryFleet(hosts=2, waves=[1, 1])
    rollout = fleet.publish("r2", broken={"web-01"})
    fleet.pass_time(minutes=10)
    fleet.clear(rollout, excuse={"web-01"})
    fleet.pass_time(minutes=10)
    assert fleet.hosts["web-02"].state is HostState.CONVERGED
    assert fleet.rollouts[rollout].excused_hosts == {"web-01"}


def test_channels_wait_for_each_other() -> None:
    """`after` holds the second channel until the first one is Terminal."""
    fleet = InMemoryFleet.of(Channel("db", 1), Channel("web", 1, after=["db"]))
    web = fleet.publish("r2", channel="web")
    fleet.publish("r2", channel="db")
    fleet.pass_time(minutes=3)
    assert fleet.hosts["web-01"].waits is not None
    assert fleet.hosts["web-01"].waits.gate is Gate.CHANNEL_EDGES
    fleet.pass_time(minutes=15)
    assert fleet.rollouts[web].state is RolloutState.TERMINAL


def test_processes_may_end_and_databases_may_be_lost() -> None:
    """After a crash, a restart, a cut network and a lost database the rollout still completes."""
    fleet = InMemoryFleet(hosts=2, waves=[1, 1])
    fleet.crash("web-01", Boundary.AFTER_WRITE)
    rollout = fleet.publish("r2")
    fleet.cut_off("web-02", minutes=2, direction=Direction.BOTH)
    fleet.pass_time(minutes=3)
    fleet.restart("control-plane")
    fleet.restart("web-01")
    fleet.lose_database()
    fleet.pass_time(minutes=30)
    assert fleet.rollouts[rollout].state is RolloutState.TERMINAL


def test_a_deferred_switch_takes_effect_at_the_reboot() -> None:
    """The host is Deferred until the machine is rebooted, and runs the new closure then."""
    fleet = InMemoryFleet(hosts=1)
    fleet.publish("r2", behaviour={"web-01": ClosureBehaviour(SwitchResult.WAITS_FOR_REBOOT)})
    fleet.pass_time(minutes=5)
    assert fleet.hosts["web-01"].state is HostState.DEFERRED
    fleet.reboot("web-01")
    fleet.pass_time(minutes=5)
    assert fleet.hosts["web-01"].running == "r2-web-01"


def test_the_clock_moves_only_when_it_is_told_to() -> None:
    """`now` is exactly as much later as was passed."""
    fleet = InMemoryFleet(hosts=1)
    before = fleet.now
    fleet.pass_time(hours=1, minutes=2, seconds=3)
    assert fleet.now - before == timedelta(hours=1, minutes=2, seconds=3)


def test_the_trace_can_be_cut() -> None:
    """A slice of the trace is a trace; facts, effects and rows can be had alone."""
    fleet = InMemoryFleet(hosts=1)
    fleet.publish("r2")
    length = len(fleet.trace)
    fleet.pass_time(minutes=10)
    later = fleet.trace[length:]
    assert len(later) == len(fleet.trace) - length
    kinds = {str(line.kind) for line in later}
    assert {"fact", "effect", "row"} <= kinds
    assert len(later.facts) + len(later.effects) + len(later.rows) == len(later)


def test_files_are_removed_when_the_fleet_is_closed(tmp_path: Path) -> None:
    """`close` may be called twice; afterwards nothing is left on the disk."""
    fleet = InMemoryFleet(hosts=1)
    directory = fleet.directory
    assert directory.is_dir()
    fleet.close()
    fleet.close()
    assert not directory.exists()


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (
            lambda: InMemoryFleet(hosts=6, waves=[1, 2]),
            WaveSizesDiffer,
            "waves of channel stable: expected sizes that add up to 6 (the number of hosts),"
            " found [1, 2], which adds up to 3",
        ),
        (
            lambda: InMemoryFleet(hosts=3, waves=[3, 0]),
            InvalidFleet,
            "waves of channel stable: expected sizes of at least 1, found [3, 0]",
        ),
        (lambda: InMemoryFleet(hosts=0), InvalidFleet, "hosts of channel stable: expected at least 1"),
        (lambda: InMemoryFleet(hosts=2, budget=0), InvalidFleet, "budget of channel stable"),
        (lambda: InMemoryFleet(hosts=2, soak_minutes=-1), InvalidFleet, "soak_minutes"),
        (lambda: InMemoryFleet(hosts=["a", "a"]), InvalidFleet, "expected every name once"),
        (
            lambda: InMemoryFleet(hosts=2, offline={"web-03"}),
            UnknownName,
            "unknown host 'web-03': expected one of web-01, web-02",
        ),
        (lambda: InMemoryFleet(hosts=2, edges=[("web-01", "web_02")]), UnknownName, "web-02?"),
        (lambda: InMemoryFleet(hosts=1, channel="Stable!"), InvalidFleet, "[a-z0-9_-]+"),
        (lambda: InMemoryFleet.of(), InvalidFleet, "at least one channel"),
        (lambda: InMemoryFleet.of(Channel("a", 1), Channel("a", 1)), InvalidFleet, "a twice"),
        (lambda: InMemoryFleet.of(Channel("a", 1, max_per_minute=0)), InvalidFleet, "max_per_minute"),
        (lambda: InMemoryFleet.of(Channel("a", 1, after=["b"])), UnknownName, "channel 'b'"),
    ],
)  # fmt: skip
def test_a_fleet_that_cannot_be_is_refused(make, error, said) -> None:  # type: ignore[no-untyped-def]
    """The error says what was expected and what was found."""
    with pytest.raises(error) as raised:
        make()
    assert said in str(raised.value)
    assert isinstance(raised.value, FleetError)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda _: UNTYPED(hosts="6"), "hosts: expected an integer or a tuple"),
        (lambda _: UNTYPED(hosts=True), "hosts: expected an integer or a tuple"),
        (lambda _: UNTYPED(waves=3), "waves: expected a tuple, of an integer each, found 3 (int)"),
        (lambda _: UNTYPED(soak_minutes=1.5), "soak_minutes: expected an integer"),
        (lambda _: UNTYPED(budget="1"), "budget: expected"),
        (lambda _: UNTYPED(edges=["ab"]), "edges[0]: expected a tuple of 2, found 'ab' (str)"),
        (lambda _: UNTYPED(channel=5), "name: expected a string, found 5 (int)"),
        (lambda _: UNTYPED(on_health_failure="stop"), "on_health_failure: expected an OnHealthFailure"),
        (lambda _: UNTYPED(offline="web-01"), "offline: expected a collection, found 'web-01' (str)"),
        (lambda _: UNTYPED.of("stable"), "channels[0]: expected a Channel"),
        (lambda fleet: fleet.publish("r2", broken="web-01"), "broken: expected a collection, found 'web-01' (str)"),
        (lambda fleet: fleet.publish("r2", broken=[5]), "broken[0]: expected a string"),
        (lambda fleet: fleet.publish("r2", broken_after={"web-01": "3"}), "broken_after['web-01']: expected a number"),
        (lambda fleet: fleet.publish("r2", behaviour={"web-01": "bad"}), "behaviour['web-01']: expected a Cl"),
        (lambda fleet: fleet.publish(3), "ref: expected a string, found 3 (int)"),
        (lambda fleet: fleet.publish("r2", closure=3), "closure: expected a string"),
        (lambda fleet: fleet.pass_time(minutes="3"), "minutes: expected a number, found '3' (str)"),
        (lambda fleet: fleet.cut_off("web-01", minutes="3"), "minutes: expected a number"),
        (lambda fleet: fleet.cut_off("web-01", minutes=1, direction="both"), "direction: expected a Direction"),
        (lambda fleet: fleet.crash("web-01", "switch"), "boundary: expected"),
        (lambda fleet: fleet.explain(5), "host: expected a string, found 5 (int)"),
        (lambda fleet: fleet.switch_off(None), "host: expected a string, found None"),
        (lambda fleet: fleet.pause(5), "scope: expected a string or None"),
        (lambda fleet: fleet.pause(reason=5), "reason: expected a string"),
        (lambda fleet: fleet.clear(5), "rollout: expected a string"),
        (lambda fleet: fleet.clear("stable@r1", excuse="web-01"), "excuse: expected a collection"),
        (lambda fleet: fleet.retire_quarantine(5), "closure: expected a string"),
    ],
)  # fmt: skip
def test_an_argument_of_another_type_is_refused_by_its_name(
    call: Callable[[Any], object], said: str
) -> None:
    """A string is not taken for the names of its letters, and no error of Python's comes from inside."""
    fleet = InMemoryFleet(hosts=1)
    with pytest.raises(InvalidValue) as raised:
        call(fleet)
    assert said in str(raised.value)
    assert isinstance(raised.value, NixfleetError)


def test_a_fleet_shows_in_one_line_what_it_is() -> None:
    """The repr has the channels, the number of hosts and of rollouts, and how much time has passed."""
    fleet = InMemoryFleet(hosts=2)
    fleet.publish("r2")
    fleet.pass_time(minutes=2)

    assert repr(fleet) == "<InMemoryFleet of 2 hosts on stable, 1 rollout, after +0:02:00>"


def test_calls_that_make_no_sense_are_refused() -> None:
    """Each names what was wrong, and the fleet is as it was."""
    fleet = InMemoryFleet(hosts=2)
    fleet.publish("r2")
    with pytest.raises(RefTwice, match="has published 'r2' already"):
        fleet.publish("r2")
    with pytest.raises(UnknownName, match="did you mean web-02"):
        fleet.publish("r3", broken={"wb-02"})
    with pytest.raises(InvalidRolloutId):
        fleet.publish("a@b")
    with pytest.raises(UnknownName, match=r"unknown channel 'stabel': .*did you mean stable"):
        fleet.publish("r3", channel="stabel")
    with pytest.raises(UnknownName, match="unknown host"):
        fleet.hosts["db-01"]
    with pytest.raises(UnknownName, match="no rollout exists yet"):
        fleet.rollouts["stable@r9"]
    with pytest.raises(UnknownName):
        fleet.explain("db-01")
    with pytest.raises(InvalidTime, match="more than 0 seconds, found 0"):
        fleet.pass_time()
    with pytest.raises(InvalidTime, match="more than 0 seconds, found inf"):
        fleet.pass_time(hours=float("inf"))
    with pytest.raises(InvalidTime, match="more than 0 seconds, found -60"):
        fleet.cut_off("web-01", minutes=-1)
    with pytest.raises(CommandRefused, match="ResumeScope was refused"):
        fleet.resume()
    fleet.pass_time(minutes=10)
    assert list(fleet.rollouts) == ["stable@r2"]


def test_a_control_plane_that_is_off_answers_no_command() -> None:
    """Commands raise by name until it is switched on."""
    fleet = InMemoryFleet(hosts=1)
    fleet.switch_off("control-plane")
    with pytest.raises(ControlPlaneDown, match="switch_on"):
        fleet.pause()
    fleet.switch_on("control-plane")
    fleet.publish("r2")
    fleet.pass_time(seconds=10)
    fleet.pause()
