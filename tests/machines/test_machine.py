"""Switches of a real machine: systemd, dbus, nix, the agent as a unit, and ways in which a closure breaks it."""

from collections.abc import Callable
from contextlib import closing

import pytest

from nixfleet_control_plane.engine.state import State
from nixfleet_proto.agent_event import ActivationCompleted, ActivationFailed
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from tests.faults.waiting import until
from tests.faults.witness import Audit
from tests.machines.conftest import AGENT, HOSTNAME, Bench
from tests.machines.systems import AGENT_UNIT, System, install

pytestmark = pytest.mark.anyio

PROFILE = "/nix/var/nix/profiles/system"


def started(bench: Bench) -> str:
    """Let the machine run a first system, and its agent; return the closure."""
    old = bench.build(System("old"))
    install(bench.machine, old)
    bench.machine.run("systemctl", "start", AGENT_UNIT)
    return old


def host_is(rollout_id: RolloutId, state: HostState) -> Callable[[State], bool]:
    """Return whether the host is in `state`, as the control plane knows it."""

    def is_so(known: State) -> bool:
        record = known.view.rollouts.get(rollout_id) and known.view.host(rollout_id, HOSTNAME)
        return record is not None and record.state is state

    return is_so


async def test_a_switch_that_restarts_its_agent_converges(bench: Bench) -> None:
    """The agent of the new system reports the switch on record. Both systems are kept, and the timer is stopped."""
    old = started(bench)
    new = bench.build(System("new", agent=AGENT))
    rollout_id = bench.publish("r1", new)

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.CONVERGED))
        # The next answered heartbeat ends it.
        await until(audit, lambda _: "nixfleet-dead-man" not in bench.timers())

    machine = bench.machine
    assert bench.running() == new
    assert machine.run("readlink", "-f", PROFILE).strip() == f"/nix/store/{new}"
    roots = machine.run("sh", "-c", "readlink /nix/var/nix/gcroots/nixfleet/*").split()
    assert roots == [f"/nix/store/{old}", f"/nix/store/{new}"]


async def test_the_way_back_survives_a_garbage_collection_in_the_soak(bench: Bench) -> None:
    """Old generations are removed and the store is swept; the system to go back to stays."""
    old = started(bench)
    new = bench.build(System("new"))
    rollout_id = bench.publish("r1", new)
    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.CONVERGED))

    bench.machine.run("nix-collect-garbage", "--delete-old")

    assert bench.machine.run("ls", f"/nix/store/{old}/bin").split() == ["switch-to-configuration"]


async def test_a_closure_whose_agent_cannot_start_comes_back(bench: Bench) -> None:
    """No agent is left to notice. The timer brings the older system back, and its agent reports that."""
    old = started(bench)
    bad = bench.build(System("bad", agent="/bin/false"))
    rollout_id = bench.publish("r1", bad)

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.REVERTED))
        failures = [it for it in audit.facts.values() if isinstance(it, ActivationFailed)]

    assert bench.running() == old
    (failure,) = failures
    assert "brought back" in failure.stderr_tail
    assert bench.machine.run("readlink", "-f", PROFILE).strip() == f"/nix/store/{old}"


async def test_a_switch_that_is_killed_after_it_stopped_the_agent_is_rolled_back(
    bench: Bench,
) -> None:
    """The end of the unit starts the agent again, which reads the signal and goes back."""
    old = started(bench)
    kills = "systemctl stop nixfleet-agent.service; kill -9 $$"
    bad = bench.build(System("bad", before=kills))
    rollout_id = bench.publish("r1", bad)

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.REVERTED))
        failures = [it for it in audit.facts.values() if isinstance(it, ActivationFailed)]

    assert bench.running() == old
    assert [failure.exit_code for failure in failures] == [137]


async def test_a_machine_that_is_rescued_by_hand_is_not_switched_again(bench: Bench) -> None:
    """Somebody ends a switch that hangs and activates the older system: the release has failed there."""
    old = started(bench)
    hangs = "systemctl stop nixfleet-agent.service; touch /run/hangs; sleep 1000"
    bad = bench.build(System("bad", before=hangs))
    rollout_id = bench.publish("r1", bad)

    with closing(Audit(bench.site)) as audit:
        await until(audit, lambda _: bool(bench.machine.run("ls", "/run").count("hangs")))
        bench.switch_by_hand(old)
        await until(audit, host_is(rollout_id, HostState.REVERTED))

    assert bench.running() == old
    began = bench.machine.run("journalctl", "--unit=nixfleet-switch", "--no-pager", "--output=cat")
    assert began.count(f"Started /nix/store/{bad}") <= 1


async def test_units_that_fail_in_a_switch_are_named(bench: Bench) -> None:
    """Exit code 4 is a switch that was done: the host converges, and the log names the unit."""
    started(bench)
    broken = "[Service]\nType=oneshot\nExecStart=/bin/false\n"
    new = bench.build(System("new", units=(("web.service", broken),)))
    rollout_id = bench.publish("r1", new)

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.CONVERGED))
        done = [it for it in audit.facts.values() if isinstance(it, ActivationCompleted)]

    assert [(it.exit_code, it.failed_units) for it in done] == [(4, ("web.service",))]


async def test_a_closure_that_restarts_its_agent_again_and_again_fails_and_comes_back(
    bench: Bench,
) -> None:
    """Three agents began the same switch and were ended in it: the fourth gives it up, and goes back."""
    old = started(bench)
    restarts = "for i in 1 2 3 4 5 6 7 8 9 10; do systemctl restart nixfleet-agent.service; done"
    bad = bench.build(System("bad", after=restarts))
    rollout_id = bench.publish("r1", bad)

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.REVERTED))
        failures = [it for it in audit.facts.values() if isinstance(it, ActivationFailed)]

    (failure,) = failures
    assert "was begun 3 times" in failure.stderr_tail
    assert bench.running() == old
