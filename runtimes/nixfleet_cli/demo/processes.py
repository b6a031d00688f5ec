"""The demonstration's fleet as processes on loopback, and the trouble they meet in the first release.

    control-plane.toml control-plane.out            what the control plane is told, and what it says
    published/                                      the release in force: CI writes, the control plane reads
    hosts/<name>/{agent.toml,agent.out,manifests}   the same of each agent

The control plane is killed while the canary soaks. The agent of the second host is killed in the middle of its
switch, and the script it ran with it, as a service manager or a loss of power would.
"""

import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from attrs import frozen

from nixfleet_cli.demo.child import Child
from nixfleet_cli.demo.closures import HELD_UP, SWITCH_PID
from nixfleet_cli.demo.releases import Published
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import DemoHost, World, database_in, journal_in, trust_file_in
from nixfleet_control_plane.state import State
from nixfleet_release import load_release, save_release

_LISTENS = r"control plane: (http://\S+)"
_WORKS = "works for"

_CONTROL_PLANE = """\
[store]
path = "{database}"

[listen]
port = {port}

[trust]
file = "{trust}"

[releases]
directory = "{releases}"
"""

_AGENT = """\
hostname = "{hostname}"

[control_plane]
url = "http://127.0.0.1:{port}"

[trust]
file = "{trust}"

[identity]
key_file = "{key}"

[journal]
path = "{journal}"

[manifests]
cache_directory = "{manifests}"

[activator]
kind = "directory"
store = "{store}"
profile = "{profile}"
"""


@frozen
class Processes:
    """The `Runtimes` that are processes."""

    world: World
    control_plane: Child
    agents: dict[str, Child]

    async def put_in_force(self, release: Path) -> None:
        """Lay the release in the directory `release` where the control plane looks for one."""
        save_release(load_release(release), _releases_in(self.world.directory))

    async def meet_trouble(self, published: Published, watch: Watch, screen: Screen) -> None:
        """Kill the control plane, then an agent, each in the middle of its work, and start them again."""
        victim = self.world.hosts[1]
        hold_up = victim.directory / HELD_UP
        hold_up.touch()
        rollout_id = published.rollout_id

        def canary_has_switched(state: State) -> bool:
            record = state.view.host(rollout_id, self.world.canary.hostname)
            return record is not None and record.activation_completed_at is not None

        def victim_switches(state: State) -> bool:
            record = state.view.host(rollout_id, victim.hostname)
            return record is not None and record.activation_started_at is not None

        await watch.until(canary_has_switched, f"{self.world.canary.hostname} to switch")
        screen.begin("The control plane is killed, and starts again.")
        await self.control_plane.kill()
        await _start_control_plane(self.control_plane)

        await watch.until(victim_switches, f"{victim.hostname} to switch")
        await _pid_of_switch(victim)
        screen.begin(
            f"The agent of {victim.hostname} is killed in the middle of its switch, and starts again."
        )
        await self.agents[victim.hostname].kill()
        os.kill(await _pid_of_switch(victim), signal.SIGKILL)
        hold_up.unlink()
        await self.agents[victim.hostname].start()


@asynccontextmanager
async def running_processes(
    world: World, clock_arguments: Sequence[str]
) -> AsyncIterator[Processes]:
    """Run the fleet of `world` as processes while the context is open; then each is asked to end.

    Raises: WentWrong, also when one of them ended badly.
    """
    directory, port = world.directory, free_port()
    _releases_in(directory).mkdir()
    control_plane = _control_plane(directory, port, clock_arguments)
    agents = {host.hostname: _agent(directory, host, port, clock_arguments) for host in world.hosts}
    async with AsyncExitStack() as running:
        running.push_async_callback(_stop, control_plane)
        await _start_control_plane(control_plane)
        for agent in agents.values():
            running.push_async_callback(_stop, agent)
            await agent.start()
        for agent in agents.values():
            # Soak times begin with a dispatch: on a slow machine they would be over before the last agent is there.
            await agent.said(_WORKS, since=0)
        yield Processes(world, control_plane, agents)


async def _start_control_plane(control_plane: Child) -> None:
    said_before = control_plane.log.stat().st_size if control_plane.log.exists() else 0
    await control_plane.start()
    await control_plane.said(_LISTENS, since=said_before)


async def _stop(child: Child) -> None:
    if child.has_ended:
        raise WentWrong((f"{child.name}: expected it to run to the end; see {child.log}",))
    exit_code = await child.stop()
    if exit_code != 0:
        found = f"{exit_code}; see {child.log}"
        raise WentWrong((f"{child.name}: expected exit code 0, found {found}",))


async def _pid_of_switch(host: DemoHost) -> int:
    """Return the process of the host's switch script, as soon as it has said so."""
    with anyio.fail_after(10.0):
        while True:
            said = host.directory / SWITCH_PID
            if said.exists() and (text := said.read_text()).endswith("\n"):
                return int(text)
            await anyio.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody has: not 0, for a control plane that starts again must be found again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _releases_in(directory: Path) -> Path:
    return directory / "published"


def _control_plane(directory: Path, port: int, clock_arguments: Sequence[str]) -> Child:
    config = directory / "control-plane.toml"
    config.write_text(
        _CONTROL_PLANE.format(
            database=database_in(directory),
            port=port,
            trust=trust_file_in(directory),
            releases=_releases_in(directory),
        )
    )
    arguments = ("control-plane", "run", "--config", str(config), *clock_arguments)
    return Child("control plane", arguments, directory / "control-plane.out")


def _agent(directory: Path, host: DemoHost, port: int, clock_arguments: Sequence[str]) -> Child:
    config = host.directory / "agent.toml"
    manifests = host.directory / "manifests"
    manifests.mkdir()
    config.write_text(
        _AGENT.format(
            hostname=host.hostname,
            port=port,
            trust=trust_file_in(directory),
            key=host.key_file,
            journal=journal_in(directory, host.hostname),
            manifests=manifests,
            store=host.activator.store,
            profile=host.activator.profile,
        )
    )
    arguments = ("agent", "run", "--config", str(config), *clock_arguments)
    return Child(f"agent of {host.hostname}", arguments, host.directory / "agent.out")
