"""A running agent: without its control plane, with a full disk, with an unreadable machine; and how it stops."""

import os
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve

from nixfleet_agent.activation.activator import NoRunningClosure
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.loading import load_state
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeResult,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_runtime.kernel.write_failures import WriteOverdue
from nixfleet_state_machine.host.state import HostState
from tests.support.running_agent import HOST, R1, SETTINGS, World

pytestmark = pytest.mark.anyio

TRUE = HealthCheckSet({"alive": ExecProbe(("true",), interval_seconds=5)})


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.machine.give("old", HealthCheckSet())
    world.machine.give("new", TRUE)
    world.control_plane.release()
    return world


def lived(journal: SqliteJournal) -> list[type[AgentEvent]]:
    """Return the kinds of the facts that wait in the journal."""
    return [type(row.fact) for row in journal.unsent(100)]


def state_in(directory: Path) -> HostState:
    """Return the state of the host as the journal in `directory` has it."""
    journal = SqliteJournal(directory / "journal.db")
    try:
        return load_state(journal, HOST).rollouts[R1].record.state
    finally:
        journal.close()


async def test_a_host_goes_from_dispatch_to_converged(world: World) -> None:
    """Everything that happened is told, in order."""
    async with world.agent():
        await world.until(
            lambda: any(isinstance(fact, Converged) for fact in world.control_plane.accepted)
        )
    seqs = [fact.seq for fact in world.control_plane.accepted]
    assert seqs == list(range(1, len(seqs) + 1))
    assert world.machine.began == ["new"]


async def test_with_the_control_plane_away_the_host_soaks_and_converges(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Facts wait in the journal and are sent when the control plane answers again; the failure is logged once."""
    async with world.agent() as journal:
        await world.until(lambda: world.machine.running == "new")
        world.control_plane.is_away = True
        await world.until(lambda: Converged in lived(journal))
        said = [record.message for record in caplog.records if "no answer" in record.message]
        assert len(said) == 1  # for events, heartbeat and poll together
        world.control_plane.is_away = False
        await world.until(lambda: not journal.unsent(1))
    assert isinstance(world.control_plane.accepted[-1], Converged)


async def test_an_agent_starts_without_its_control_plane_and_goes_on(world: World) -> None:
    """Soaking continues after a restart without a control plane."""
    async with world.agent() as journal:
        await world.until(lambda: world.machine.running == "new")
        world.control_plane.is_away = True
        await world.until(lambda: ActivationCompleted in lived(journal) or not journal.unsent(1))
    async with world.agent() as journal:
        await world.until(lambda: Converged in lived(journal))


async def test_a_full_disk_is_waited_for_and_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is done that could not be written down; with room again the rollout goes on to its end."""
    async with world.agent() as journal:
        await world.pass_time(2)
        journal.is_full = True
        world.control_plane.release()
        await world.until(lambda: journal.refused > 5)
        assert world.machine.began in ([], ["new"])
        journal.is_full = False
        await world.until(
            lambda: any(isinstance(fact, Converged) for fact in world.control_plane.accepted)
        )
    assert caplog.text.count("database or disk is full") == 1
    assert world.machine.began == ["new"]


async def test_an_outcome_that_a_full_disk_could_not_take_is_not_lost(world: World) -> None:
    """A switch that ended while the disk was full is written down as soon as it can be, and not repeated."""
    world.machine.may_end = anyio.Event()
    async with world.agent() as journal:
        await world.until(lambda: world.machine.began == ["new"])
        journal.is_full = True
        world.machine.may_end.set()
        await world.until(lambda: journal.refused > 3)
        journal.is_full = False
        await world.until(
            lambda: any(isinstance(it, ActivationCompleted) for it in world.control_plane.accepted)
        )
    assert world.machine.began == ["new"]


async def test_a_machine_that_cannot_be_read_for_a_while_ends_nothing(world: World) -> None:
    """The workers that look at it begin again; the others go on, and so does the rollout afterwards."""
    async with world.agent():
        await world.until(lambda: world.control_plane.heartbeats > 0)
        world.machine.is_unreadable = True
        await world.pass_time(30)
        world.machine.is_unreadable = False
        await world.until(
            lambda: any(isinstance(fact, Converged) for fact in world.control_plane.accepted)
        )


async def test_a_worker_that_fails_is_named_and_begins_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in one of them is logged with its traceback, and does not affect the others."""

    def break_once() -> None:
        world.control_plane.breaks = lambda: None
        raise ZeroDivisionError("a bug")

    world.control_plane.breaks = break_once
    async with world.agent():
        await world.until(lambda: world.control_plane.heartbeats > 1)
        await world.until(lambda: world.machine.running == "new")
    assert "the heartbeat failed and begins again" in caplog.text
    assert "break_once" in caplog.text


async def test_an_agent_that_is_told_to_stop_leaves_no_probe_running(
    world: World, tmp_path: Path
) -> None:
    """The processes of its probes are gone when it is."""
    pid_file = tmp_path / "pid"
    command = ("sh", "-c", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600")
    world.machine.give("stuck", HealthCheckSet({"stuck": ExecProbe(command, timeout_secs=600)}))
    world.control_plane.release("stuck")
    async with world.agent():
        await world.until(pid_file.exists)
        os.kill(int(pid_file.read_text()), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_what_was_told_before_the_stop_is_durable(world: World, tmp_path: Path) -> None:
    """The next start finds the host where this one left it: soaking, or on a slow machine beyond that already."""
    async with world.agent():
        await world.until(
            lambda: any(isinstance(fact, ProbeResult) for fact in world.control_plane.accepted)
        )
    assert state_in(tmp_path) in (HostState.SOAKING, HostState.CONVERGED)


async def test_a_switch_that_is_nearly_over_is_let_end(world: World, tmp_path: Path) -> None:
    """The outcome is in the journal when the agent has stopped."""
    world.machine.may_end = anyio.Event()
    async with world.agent():
        await world.until(lambda: world.machine.began == ["new"])
        world.service.stop()
        await anyio.sleep(0.01)
        assert world.service.is_stopping
        world.machine.may_end.set()
    assert state_in(tmp_path) is HostState.SOAKING


async def test_a_switch_that_is_cut_off_is_finished_by_the_next_start(
    world: World, tmp_path: Path
) -> None:
    """The journal knows of it: it is begun again, and reported once."""
    world.machine.may_end = anyio.Event()
    settings = evolve(SETTINGS, switch_grace_seconds=0.05)
    async with world.agent(settings):
        await world.until(lambda: world.machine.began == ["new"])
    assert state_in(tmp_path) is HostState.ACTIVATING
    world.machine.may_end.set()
    async with world.agent():
        await world.until(
            lambda: any(isinstance(it, ActivationCompleted) for it in world.control_plane.accepted)
        )
    assert [type(fact) for fact in world.control_plane.accepted].count(DispatchAck) == 1
    assert world.machine.began == ["new", "new"]


async def test_an_agent_that_is_cancelled_has_written_what_was_accepted(
    world: World, tmp_path: Path
) -> None:
    """Cut off from outside it is as durable as when it is told to stop."""
    with anyio.CancelScope() as cut:
        async with world.agent():
            await world.until(
                lambda: any(isinstance(fact, ProbeResult) for fact in world.control_plane.accepted)
            )
            cut.cancel()
            await anyio.sleep(1)
    assert state_in(tmp_path) is HostState.SOAKING


async def test_a_machine_on_which_nothing_runs_is_told_at_once(world: World) -> None:
    """An agent without a running closure has nothing to go back to."""

    async def current() -> str:
        raise NoRunningClosure(Path("/run/current"))

    world.machine.current = current  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as ended:
        async with world.agent():
            await anyio.sleep(1)
    assert ended.group_contains(NoRunningClosure)


async def test_a_dispatch_during_a_switch_waits_for_its_end(world: World) -> None:
    """What runs is not read while it is being changed: it would become the wrong way back."""
    world.machine.may_end = anyio.Event()
    async with world.agent():
        await world.until(lambda: len(world.control_plane.accepted) == 2)  # acknowledged, started
        polls = world.control_plane.polls
        world.control_plane.release()
        await world.pass_time(20)
        assert world.control_plane.polls <= polls + 2
        world.machine.may_end.set()
        await world.until(
            lambda: any(isinstance(fact, Converged) for fact in world.control_plane.accepted)
        )


async def test_polls_that_are_answered_at_once_are_not_repeated_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody on the way who does not wait costs a poll a second, not a processor."""

    async def at_once(wait_seconds: float) -> None:
        world.control_plane.polls += 1
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(world.control_plane, "next_dispatch", at_once)
    async with world.agent():
        await world.pass_time(20)
        assert 10 <= world.control_plane.polls <= 21


async def test_a_write_of_the_journal_that_outlasts_its_deadline_ends_the_agent(
    world: World,
) -> None:
    """By the deadline of its settings: a service manager starts it again, and the journal says what is there."""
    may_end = threading.Event()
    with pytest.raises(ExceptionGroup) as ended:
        await _live_past_its_deadline(world, may_end)
    may_end.set()
    assert ended.group_contains(WriteOverdue, match=r"within 0\.01 s")


async def _live_past_its_deadline(world: World, may_end: threading.Event) -> None:
    async with world.agent(evolve(SETTINGS, write_seconds_max=0.01)) as journal:
        journal.may_end = may_end
        await anyio.sleep_forever()
