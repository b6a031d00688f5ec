"""An agent whose activator is an operator's own commands: its switches outlive it, in a unit of their own."""

from contextlib import closing

import pytest

from nixfleet_proto.agent_event import ActivationFailed
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from nixfleet_release.build.closures import render_health_checks
from nixfleet_runtime.config.check import toml_text
from nixfleet_state_machine.host.state import HostState
from nixfleet_units.units import UnitOptions, unit_of
from tests.faults.waiting import until
from tests.faults.witness import Audit
from tests.machines.conftest import AGENT, HOSTNAME, Bench
from tests.machines.systems import AGENT_UNIT
from tests.machines.test_machine import host_is

pytestmark = pytest.mark.anyio

# What runs is a line in a file. A switch restarts the agent in its middle, as one does that brings a new agent.
PROGRAM = """#!/bin/sh
cd /site/commands
case $1 in
current) [ -e current ] || exit 3; cat current ;;
prepare) [ -e "files/$2" ] || exit 75 ;;
switch)
    systemctl restart nixfleet-agent.service
    [ "$2" != bad ] || { echo "no such service" >&2; exit 9; }
    echo "$2" > current.new && mv current.new current
    echo "$2" >> switched ;;
esac
"""


def with_commands(bench: Bench) -> None:
    """Let the machine's agent run commands, and `old` run on it."""
    directory = bench.site.directory / "commands"
    for closure in ("old", "new", "bad"):
        tree = directory / "files" / closure
        tree.mkdir(parents=True)
        render_health_checks(tree, bench.site.checked.health_checks[HOSTNAME])
        assert (tree / HEALTH_CHECKS_PATH).is_file()
    (directory / "current").write_text("old\n")
    (directory / "activate").write_text(PROGRAM)
    (directory / "activate").chmod(0o755)
    program = "/site/commands/activate"
    config = bench.site.hosts[0].directory / "agent.toml"
    lines = [it for it in config.read_text().splitlines() if not it.startswith("activator.")]
    settings: dict[str, str | float | tuple[str, ...]] = {
        "activator.kind": "command",
        "activator.files": "/site/commands/files/{closure}",
        "activator.poll_interval_seconds": 0.2,
        "activator.current": (program, "current"),
        "activator.prepare": (program, "prepare", "{closure}"),
        "activator.switch": (program, "switch", "{closure}"),
    }
    lines += [f"{name} = {toml_text(value)}" for name, value in settings.items()]
    config.write_text("\n".join(lines) + "\n")
    unit = unit_of("agent", UnitOptions(AGENT, f"/site/{HOSTNAME}/agent.toml"))
    text = f"{unit.text}\n[Service]\nReadWritePaths=/site\nProtectHome=no\nPrivateTmp=no\nRestartSec=0\n"
    (bench.machine.root / "etc/systemd/system" / AGENT_UNIT).write_text(text)
    bench.machine.run("systemctl", "daemon-reload")
    bench.machine.run("systemctl", "start", AGENT_UNIT)


async def test_a_switch_of_commands_that_restarts_its_agent_converges(bench: Bench) -> None:
    """The agent that comes up finds the unit and reads its result: the command ran once."""
    with_commands(bench)
    rollout_id = bench.publish("r1", "new")

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.CONVERGED))

    switched = (bench.site.directory / "commands" / "switched").read_text().split()
    assert switched == ["new"]


async def test_a_switch_of_commands_that_fails_after_a_restart_is_rolled_back(bench: Bench) -> None:
    """Its exit code and its words are those of the unit, although another agent began it."""
    with_commands(bench)
    rollout_id = bench.publish("r1", "bad")

    with closing(Audit(bench.site)) as audit:
        await until(audit, host_is(rollout_id, HostState.REVERTED))
        (failure,) = [it for it in audit.facts.values() if isinstance(it, ActivationFailed)]

    assert failure.exit_code == 9
    assert "no such service" in failure.stderr_tail
    switched = (bench.site.directory / "commands" / "switched").read_text().split()
    assert switched == ["old"]
