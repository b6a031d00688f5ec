"""The commands of the guides on windows, approvals and recalls, run as they stand there against a control plane."""

import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import Result

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.messages.inputs import Done, PlanTick, ReportVerdict
from nixfleet_proto.agent_event import DispatchAck, Postponed
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.steering.guards import BAKE, Comparison, WaveGuards
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_proto.trust import Operator, OperatorRole
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_release import check
from nixfleet_runtime.transport import Heartbeat
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutState
from tests.cli.test_operator import OperatorConsole
from tests.control_plane.test_engine_guards import Fleet
from tests.docs.pages import DOCS, blocks_of
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory
from tests.support.served_control_plane import CLOCK, KEY, site_with

APPROVALS, RECALLS, WINDOWS = (
    (DOCS / "how-to" / name).read_text("utf-8")
    for name in ("approvals-and-checks.md", "recall-and-locks.md", "windows-and-freezes.md")
)
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("ada", "bob", "eve"))}
OPERATORS = tuple(Operator(name, KEYS[name].public_key, OperatorRole.OPERATE) for name in KEYS)


def _commands(page: str, heading: str) -> list[list[str]]:
    """The `nixfleet operator` commands in the blocks of a section."""
    section = page.split(f"\n## {heading}\n", 1)[1].partition("\n## ")[0]
    lines = (line for block in blocks_of(section) for line in block.text.splitlines())
    return [shlex.split(line)[2:] for line in lines if line.startswith("nixfleet operator ")]


def _fleet_of(page: str, heading: str, file: Path) -> WaveGuards:
    """The guards of the second wave of the fleet in a section, which is valid."""
    section = page.split(f"\n## {heading}\n", 1)[1].partition("\n## ")[0]
    file.write_text(next(it.text for it in blocks_of(section) if it.language == "toml"), "utf-8")
    (policy,) = check(file).declaration.policies.values()
    return policy.waves[1].guards.resolved()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[OperatorConsole]:
    """A site at which ada, bob and eve may operate."""
    async with site_with(tmp_path, enrolls=True) as site:
        site.service.use_trust(evolve(site.publisher.trust, operators=OPERATORS))
        yield OperatorConsole(tmp_path, site)


async def _run(desk: OperatorConsole, command: list[str], who: str = "ada") -> Result:
    done = await desk.run(*command, name=who, key=KEYS[who])
    assert done.exit_code == 0, (command, done.output)
    return done


@pytest.mark.anyio
async def test_two_approvers_and_a_denial(desk: OperatorConsole, tmp_path: Path) -> None:
    """The first is told who is waited for; the denial halts at once."""
    guards = _fleet_of(APPROVALS, "Two approvers for production", tmp_path / "fleet.toml")
    await desk.site.publish("a1b2c3", Layout(channel="production", guards=(WaveGuards(), guards)))
    (approve,) = _commands(APPROVALS, "Two approvers for production")
    (deny,) = _commands(APPROVALS, "A denial")

    first = await _run(desk, approve)
    assert "1 of 2 approvals: ada, waits for one of bob, eve" in first.stdout
    second = await _run(desk, approve, "bob")
    assert "approvals" not in second.stdout
    assert "bake of 60 min" in second.stdout
    await _run(desk, deny, "eve")
    assert (await _run(desk, ["rollouts"])).stdout.split("\t")[1] == "Failed"


@pytest.mark.anyio
async def test_an_emergency_waives_what_the_recipe_lists_and_no_approval(
    desk: OperatorConsole, tmp_path: Path
) -> None:
    """The bake of the careful policy; the two approvals are still asked for."""
    guards = _fleet_of(APPROVALS, "Two approvers for production", tmp_path / "fleet.toml")
    await desk.site.publish("a1b2c3", Layout(channel="production", guards=(WaveGuards(), guards)))
    (promote,) = _commands(APPROVALS, "An emergency")

    done = await _run(desk, promote)
    assert "it waits for: 0 of 2 approvals, waits for 2 of ada, bob, eve\n" in done.stdout
    assert BAKE not in done.stdout


@pytest.mark.anyio
async def test_a_bad_release_is_taken_back_on_a_friday_night(desk: OperatorConsole) -> None:
    """Also while the channel is frozen. The orders are listed, and one host is tried first, or after."""
    layout = Layout(
        waves=(("web-01",), ("web-17",)),
        policy=RolloutPolicy(recall=Recall.OPERATOR),
        pubkeys=(("web-17", KEY.public_key.public_key),),
    )
    await desk.site.publish("a1b2c3", layout)
    took = DispatchAck("old", CLOCK.now(), seq=1)
    async with desk.site.agent("web-17") as agent:
        rollout_id = RolloutId("stable@a1b2c3")
        await agent.post_events((AgentEventEnvelope("web-17", rollout_id, took),))
    await _run(desk, ["freeze", "--all", "--until", "3d", "--reason", "it is Friday"])
    *commands, one = _commands(RECALLS, "Take a release back")

    # First on one host, as the page says below; afterwards that host would be nothing to do.
    assert "recall of web-17 is relayed" in (await _run(desk, one)).stdout
    recalled, hosts, warrants = [await _run(desk, each) for each in commands]
    assert "recall of its hosts is relayed" in recalled.stdout
    assert [line.split("\t")[1] for line in hosts.stdout.splitlines()] == ["web-01", "web-17"]
    assert warrants.stdout.endswith("\tit eats disks\n")
    assert (await _run(desk, ["rollouts"])).stdout.split("\t")[1] == "Aborted"


@pytest.mark.anyio
async def test_a_laptop_that_is_locked_is_explained_and_its_lock_overridden(
    desk: OperatorConsole,
) -> None:
    """The order is handed to the host that said "not now", and to no other."""
    laptop = "laptop-17"
    rollout_id = await desk.site.publish("a1b2c3", Layout(waves=((laptop, "web-01"),)))
    holds, explain = _commands(RECALLS, "Ask the user first")
    (override,) = _commands(RECALLS, "Override a lock")
    now = CLOCK.now()
    locked = Postponed(now, "a call is in progress", now + timedelta(minutes=30), seq=1)
    await desk.site.service.take_events(laptop, (AgentEventEnvelope(laptop, rollout_id, locked),))

    for command in (holds, explain):
        shown = (await _run(desk, command)).stdout
        assert "a call is in progress" in shown
    await _run(desk, override)
    told = {}
    for hostname, seq in ((laptop, 1), ("web-01", 0)):
        heartbeat = Heartbeat(hostname, "old", FrozenMap({str(rollout_id): seq}))
        reply = await desk.site.service.compare(hostname, heartbeat)
        told[hostname] = [(it.warrant.rule, it.warrant.hosts) for it in reply.warrants]
    assert told == {laptop: [(ClosureRule.TARGET, (laptop,))], "web-01": []}


@pytest.mark.anyio
async def test_a_rollout_is_ended(desk: OperatorConsole) -> None:
    """No machine is moved."""
    await desk.site.publish("a1b2c3")
    (abort,) = _commands(RECALLS, "End a rollout")
    await _run(desk, abort)
    assert (await _run(desk, ["rollouts"])).stdout.split("\t")[1] == "Aborted"


def test_what_the_guide_declares_for_recalls_and_the_way_home_is_valid(tmp_path: Path) -> None:
    """Each block is a part of a fleet."""
    file = tmp_path / "fleet.toml"
    parts = [block.text for block in blocks_of(RECALLS) if block.language == "toml"]
    rest = '[channels.stable]\npolicy = "canary-first"\n[hosts.web-01]\nchannel = "stable"\n'
    wave = "[[policies.canary-first.waves]]\nrest = true\nsoak_minutes = 10\n"
    backs = 'on_health_failure = "rollback-and-halt"\n'
    file.write_text(rest + parts[1] + backs + wave + parts[0], "utf-8")
    declared = check(file).declaration

    assert declared.policies["canary-first"].recall is Recall.OPERATOR
    ((checks),) = [scoped for scoped in declared.health_checks.values() if scoped]
    assert set(checks) == {"home"}


@pytest.mark.anyio
async def test_a_fleet_is_frozen_and_a_wave_is_held_without_a_release(
    desk: OperatorConsole,
) -> None:
    """Both are listed; the wave's is released."""
    waves = (("web-01",), ("web-02",), ("web-03",))
    await desk.site.publish("r7", Layout(waves=waves))
    freeze, hold, holds, release = _commands(WINDOWS, "Now, without a release")
    await _run(desk, freeze)
    await _run(desk, hold)
    listed = [line.split("\t")[0] for line in (await _run(desk, holds)).stdout.splitlines()]
    assert listed == ["fleet:all", "wave:2:stable@r7"]
    await _run(desk, release)
    left = [line.split("\t")[0] for line in (await _run(desk, holds)).stdout.splitlines()]
    assert left == ["fleet:all"]


class _Judged(Fleet):
    """Its second wave has the guards of the recipe; the judge answers with a value."""

    def answer(self, value: str) -> None:
        """Take what a judge with this value says, by the comparison of the recipe."""
        (asked,) = self.engine.asked_checks()
        self.ask_for(Done, ReportVerdict(asked.question, _outcome(asked, value), value))

    def tick_after(self, minutes: float) -> None:
        self.wait(minutes=minutes)
        self.ask_for(Done, PlanTick())


def _outcome(asked: AskedCheck, value: str) -> Outcome:
    comparison = Comparison.parse(asked.check.comparison)
    assert comparison is not None
    scalar = Comparison.parse(f"== {value}")
    assert scalar is not None
    return Outcome.PASS if comparison.holds(scalar.threshold) else Outcome.FAIL


@pytest.mark.parametrize(
    ("values", "state", "wave"),
    [
        (["0.002"] * 5, RolloutState.ACTIVE, 1),
        (["0.002"] * 4, RolloutState.ACTIVE, 0),
        (["0.02", *["0.002"] * 5], RolloutState.ACTIVE, 1),
        (["0.02", *["0.002"] * 4], RolloutState.ACTIVE, 0),
        (["0.02", "0.002", "0.01"], RolloutState.FAILED, 0),
    ],
)
def test_a_canary_is_judged_by_its_error_rate(
    scratch: Path, tmp_path: Path, values: list[str], state: RolloutState, wave: int
) -> None:
    """Half an hour and the last five answers pass; a second that fails halts the rollout."""
    heading = "A canary that is judged by its error rate"
    guards = _fleet_of(APPROVALS, heading, tmp_path / "fleet.toml")
    fleet = _Judged(scratch, WaveGuards(), guards)
    fleet.finish("web-01")
    for value in values:
        fleet.answer(value)
    assert fleet.wave == 0
    fleet.tick_after(minutes=timedelta(minutes=30) / timedelta(minutes=1))

    assert (fleet.rollout(fleet.r1).state, fleet.wave) == (state, wave)


def test_every_command_of_an_operator_in_these_guides_is_run_here() -> None:
    """A new one in a guide has to be added to a test above."""
    written = {line for page in (APPROVALS, RECALLS, WINDOWS) for line in _operator_lines(page)}
    run: Callable[[str, str], list[list[str]]] = _commands
    known = [
        *run(APPROVALS, "Two approvers for production"),
        *run(APPROVALS, "A denial"),
        *run(APPROVALS, "An emergency"),
        *run(RECALLS, "Take a release back"),
        *run(RECALLS, "Ask the user first"),
        *run(RECALLS, "Override a lock"),
        *run(RECALLS, "End a rollout"),
        *run(WINDOWS, "Now, without a release"),
    ]
    assert written == {tuple(each) for each in known}


def _operator_lines(page: str) -> set[tuple[str, ...]]:
    lines = re.findall(r"^nixfleet operator .*$", page, re.MULTILINE)
    return {tuple(shlex.split(line)[2:]) for line in lines}
