"""A running agent whose closure comes late: real directories, real switch scripts, and copies that take their time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import field, frozen

from nixfleet_agent.activation.activator import (
    SWITCH_SCRIPT,
    ClosureMismatch,
    ClosureNotHere,
    Prepared,
    PrepareOutcome,
)
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.loading import load_state
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeTopologyDeclared,
)
from tests.contracts.machines import DirectoryMachine
from tests.support.running_agent import HOST, R1, World

pytestmark = pytest.mark.anyio

GOOD_LIFE: list[type[AgentEvent]] = [
    DispatchAck,
    ActivationStarted,
    ActivationCompleted,
    ProbeTopologyDeclared,
    Converged,
]


@frozen
class CountedLooks(DirectoryActivator):
    """The activator of a host, which notes what it found whenever it looked for a closure."""

    looks: list[PrepareOutcome] = field(factory=list)

    async def prepare(self, closure: str) -> PrepareOutcome:
        outcome = await super().prepare(closure)
        self.looks.append(outcome)
        return outcome


@frozen
class LateClosure:
    """A host that runs `old` and has a dispatch of `new`, which is not in its store."""

    world: World
    machine: DirectoryMachine
    activator: CountedLooks
    new: str
    deliver: Callable[[], None]

    def has_looked(self, times: int) -> Callable[[], bool]:
        return lambda: len(self.activator.looks) >= times

    def kinds(self) -> list[type[AgentEvent]]:
        """The kinds of the facts that the control plane has."""
        return [type(fact) for fact in self.world.control_plane.accepted]

    def has_converged(self) -> bool:
        return Converged in self.kinds()

    @property
    def place(self) -> Path:
        """Where the closure is looked for."""
        return self.machine.store / self.new


@pytest.fixture
async def late(tmp_path: Path) -> LateClosure:
    machine = DirectoryMachine(tmp_path)
    old, new = machine.add("old"), machine.add("new")
    await machine.boot(old)
    deliver = machine.withhold(new)
    activator = CountedLooks(machine.store, machine.profile, environment=machine.environment)
    world = World(tmp_path, activator)
    world.control_plane.release(new)
    return LateClosure(world, machine, activator, new, deliver)


async def test_a_closure_that_is_delivered_after_three_looks_is_switched_to(
    late: LateClosure,
) -> None:
    """The host waits, says so, and then lives as if the closure had been here all the time."""
    async with late.world.agent():
        await late.world.until(late.has_looked(3))
        await late.world.until(lambda: late.world.control_plane.refusals != ())
        assert late.kinds() == [DispatchAck]
        (told,) = late.world.control_plane.refusals
        late.deliver()
        await late.world.until(late.has_converged)
        await late.world.until(lambda: late.world.control_plane.refusals == ())

    found = f"{late.place}: expected the directory of the closure, found nothing"
    assert (told.rollout_id, told.reason) == (R1, f"waits for closure {late.new}: {found}")
    assert late.activator.looks[:3] == [ClosureNotHere(found)] * 3
    assert late.kinds() == GOOD_LIFE
    assert late.machine.switched() == [late.new]


async def test_an_agent_that_is_restarted_goes_on_waiting(
    late: LateClosure, tmp_path: Path
) -> None:
    """It stops at once, and no start counts as an attempt, however many there are."""
    for looks in range(1, 6):
        async with late.world.agent():
            await late.world.until(late.has_looked(looks))
    journal = SqliteJournal(tmp_path / "journal.db")
    attempts = [each.attempts for each in load_state(journal, HOST).intents.values()]
    journal.close()
    late.deliver()
    async with late.world.agent():
        await late.world.until(late.has_converged)

    assert attempts == [0]
    # What was being sent when an agent stopped is sent again.
    assert list(dict.fromkeys(late.kinds())) == GOOD_LIFE
    assert late.machine.switched() == [late.new]


async def test_a_copy_that_is_under_way_is_waited_for(late: LateClosure) -> None:
    """Its parts come one after the other; each look finds another content, until all of it is here."""
    whole = late.machine.store / f".{late.new}"
    script = late.place / SWITCH_SCRIPT
    async with late.world.agent():
        await late.world.until(late.has_looked(1))
        late.place.mkdir()
        await late.world.until(late.has_looked(2))
        script.parent.mkdir()
        await late.world.until(late.has_looked(3))
        script.touch()
        await late.world.until(late.has_looked(4))
        shutil.copy(whole / SWITCH_SCRIPT, script)
        await late.world.until(late.has_converged)

    found = [type(each) for each in late.activator.looks]
    assert found == [ClosureNotHere, *[ClosureMismatch] * 3, *[Prepared] * 2]
    assert late.kinds() == GOOD_LIFE


async def test_a_copy_that_stays_incomplete_is_a_failed_activation(late: LateClosure) -> None:
    """What has the same wrong content at two looks is bad, and nothing of it is run."""
    late.place.mkdir()
    async with late.world.agent():
        await late.world.until(lambda: ActivationFailed in late.kinds())

    failed = late.world.control_plane.accepted[-1]
    assert isinstance(failed, ActivationFailed)
    assert failed.stderr_tail.startswith(f"expected closure {late.new}, found ")
    assert late.machine.switched() == []
