"""What the agent's log says: the whole of it for a host that lives through much, and what it leaves out."""

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.locks.program import LockProgram
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import AppendEvent, MarkRefused, PutIntent, Write
from nixfleet_agent.narration import LINE_LENGTH_MAX, Narrator, bounded
from nixfleet_proto.agent_event import (
    ActivationFailed,
    AgentEvent,
    Converged,
    OnHealthFailure,
    Postponed,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    RollbackComplete,
)
from nixfleet_proto.codec import HealthCheckSet, format_time
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from tests.agent.lone_agent import T0
from tests.support.running_agent import World

pytestmark = pytest.mark.anyio

R1 = RolloutId("stable@r1")
RECORDED = Path(__file__).with_name("narration.txt")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A machine whose closures are healthy while a file of their name is there."""
    world = World(tmp_path)
    world.machine.give("old", HealthCheckSet())
    for name in ("new", "newer", "bad"):
        check = ExecProbe(("test", "-e", str(tmp_path / name)), interval_seconds=5)
        world.machine.give(name, HealthCheckSet({"alive": check}))
    (tmp_path / "new").touch()
    return world


def has(world: World, kind: type[AgentEvent], count: int = 1) -> Callable[[], bool]:
    """Whether the control plane has so many facts of the kind."""
    return lambda: sum(isinstance(it, kind) for it in world.control_plane.accepted) >= count


def fails(fact: AgentEvent) -> bool:
    """Whether it is a probe that failed."""
    return isinstance(fact, ProbeResult) and fact.status is ProbeStatus.FAIL


async def test_the_log_of_a_host_is_the_recorded_one(
    world: World, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It converges, loses its control plane, recovers after a start, is locked, fails and rolls back."""
    caplog.set_level(logging.INFO, "nixfleet_agent")
    rolls_back = RolloutPolicy(on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT)
    world.lock = LockProgram((str(tmp_path / "may-activate"),))
    said(tmp_path / "may-activate", "exit 0")
    async with world.agent():
        world.control_plane.release("new")
        await world.until(has(world, Converged))
        world.control_plane.is_away = True
        await world.pass_time(90)
        world.control_plane.is_away = False
        await world.pass_time(90)
        world.control_plane.release("newer", channel_ref="r2")
        await world.until(lambda: any(map(fails, world.control_plane.accepted)))
    (tmp_path / "newer").touch()
    async with world.agent():
        await world.until(has(world, Converged, 2))
        until = T0 + timedelta(hours=1)
        no = f'printf "a call\\033[2J\\nuntil={format_time(until)}\\n"; exit 75'
        said(tmp_path / "may-activate", no)
        world.control_plane.release("bad", channel_ref="r3", policy=rolls_back)
        await world.until(has(world, Postponed))
        said(tmp_path / "may-activate", "exit 0")
        await world.until(lambda: world.clock.now() > until, step_seconds=60)
        world.control_plane.release("bad", channel_ref="r3", policy=rolls_back)
        await world.until(has(world, RollbackComplete))

    lines = [f"{it.levelname.lower():<8}{it.getMessage()}\n" for it in caplog.records]
    assert re.sub(r"\b\d+ s\b", "N s", "".join(lines)) == RECORDED.read_text()


def said(program: Path, script: str) -> None:
    """Have a lock program answer so from now on."""
    fresh = program.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{script}\n")
    fresh.chmod(0o700)
    fresh.replace(program)


def lines_of(*writes: Write) -> list[str]:
    """What a host that was just installed says of commits."""
    narrator = Narrator(())
    return [line.text for write in writes for line in narrator.lines([write])]


def probed(status: ProbeStatus, name: str = "alive") -> AppendEvent:
    """A result of a probe, which repeats or not."""
    return AppendEvent(R1, ProbeResult(name, ProbeMode.ENFORCE, status, T0, seq=1), T0)


async def test_a_probe_that_says_the_same_again_has_no_line() -> None:
    """It is said when it fails first, and when it recovers."""
    passes, fails = probed(ProbeStatus.PASS), probed(ProbeStatus.FAIL)
    assert lines_of(passes, passes, fails, fails, passes, probed(ProbeStatus.PASS, "other")) == [
        "stable@r1: passes probe alive",
        "stable@r1: fails probe alive (enforce): no reason given",
        "stable@r1: passes probe alive",
        "stable@r1: passes probe other",
    ]


async def test_a_hostile_text_is_one_bounded_line_that_keeps_its_end() -> None:
    """What a switch script wrote last is what an operator looks for."""
    hostile = "\x1b[2Jforged\nline \u202e" + "x" * 4000 + " no such device"
    (line,) = lines_of(AppendEvent(R1, ActivationFailed(1, hostile, T0, 1), T0))
    assert line.isprintable()
    assert len(line) <= LINE_LENGTH_MAX
    assert line.startswith("stable@r1: failed to switch (exit code 1): \\x1b[2Jforged\\x0aline")
    assert line.endswith("no such device")
    assert bounded("as it is") == "as it is"


async def test_a_switch_that_was_cut_off_is_said_when_it_begins_again() -> None:
    """Not at its first attempt, which the facts tell."""
    intent = Intent(1, IntentKind.SWITCH, R1, "new", attempts=1)
    assert lines_of(PutIntent(intent)) == []
    assert lines_of(PutIntent(evolve(intent, attempts=2))) == [
        "stable@r1: begins the switch to new again, which an end of the agent or the machine cut off"
    ]


async def test_a_fact_that_the_control_plane_refuses_is_said_with_the_reason() -> None:
    """The host keeps it, marked, and sends it no more."""
    assert lines_of(MarkRefused(7, "it was not expected")) == [
        "the control plane refuses a fact of this host for good: it was not expected"
    ]
