"""The demonstration's fleet as processes on loopback, and the trouble they meet in the first release.

    published/                    the release in force: CI writes, the control plane reads
    control-plane.*, hosts/<name> what `sides` says of them

The control plane is killed while the canary soaks. The agent of the second host is killed in the middle of its
switch, and the script it ran with it, as a service manager or a loss of power would.
"""

import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path

import anyio
from attrs import frozen

from nixfleet_cli.demo.child import Child
from nixfleet_cli.demo.closures import HELD_UP, SWITCH_PID
from nixfleet_cli.demo.nats_server import server_in
from nixfleet_cli.demo.releases import Published
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.sides import Settings, agent_in, control_plane_in, free_port
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import DemoHost, World, database_in, trust_file_in
from nixfleet_control_plane.engine.state import State
from nixfleet_nats.server_config import ServerConfig
from nixfleet_proto.signing import SigningKey
from nixfleet_release import load_release, save_release


@frozen
class Processes:
    """The `Runtimes` that are processes."""

    world: World
    url: str
    control_plane: Child
    agents: dict[str, Child]

    async def put_in_force(self, release: Path) -> None:
        """Lay the release in the directory `release` where the control plane looks for one."""
        save_release(load_release(release), _releases_in(self.world.directory))

    async def switch_on(self, hostname: str) -> None:
        """Start the agent of `hostname`, which does not run."""
        await self.agents[hostname].start_and_wait()

    def reached(self) -> AbstractAsyncContextManager[str]:
        """It answers over HTTP anyhow, except while it is killed."""
        return nullcontext(self.url)

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
        await self.control_plane.start_and_wait()

        await watch.until(victim_switches, f"{victim.hostname} to switch")
        await _pid_of_switch(victim)
        screen.begin(
            f"The agent of {victim.hostname} is killed in the middle of its switch, and starts again."
        )
        await self.agents[victim.hostname].kill()
        os.kill(await _pid_of_switch(victim), signal.SIGKILL)
        hold_up.unlink()
        await self.agents[victim.hostname].start()


@frozen
class Road:
    """How hosts reach their control plane: what each side is told of it."""

    control_plane: Settings
    agents: Settings


@contextmanager
def over_nats(directory: Path) -> Iterator[Road]:
    """Run a NATS server while the context is open. Its files are in `directory`."""
    key = SigningKey.generate()
    key.save(directory / "nats.key")
    (directory / "nats").mkdir()
    server = server_in(directory / "nats", ServerConfig(key.public_key, directory))
    try:
        server.start()
        yield Road(
            {
                "transports.nats.kind": "nats",
                "transports.nats.url": server.url,
                "transports.nats.key_file": directory / "nats.key",
            },
            {"control_plane.kind": "nats", "control_plane.url": server.url},
        )
    finally:
        server.kill()


@asynccontextmanager
async def running_processes(
    world: World, clock_arguments: Sequence[str], *, has_nats: bool = False
) -> AsyncIterator[Processes]:
    """Run the fleet of `world` as processes while the context is open; then each is asked to end.

    has_nats: whether hosts call over NATS, on a server that is started too.
    Raises: WentWrong, also when one of them ended badly.
    """
    directory, port = world.directory, free_port()
    _releases_in(directory).mkdir()
    async with AsyncExitStack() as running:
        road = Road({}, {"control_plane.url": f"http://127.0.0.1:{port}"})
        if has_nats:
            road = running.enter_context(over_nats(directory))
        control_plane = _control_plane(directory, port, road, clock_arguments)
        agents = {
            host.hostname: _agent(directory, host, road, clock_arguments) for host in world.hosts
        }
        running.push_async_callback(_stop, control_plane)
        await control_plane.start_and_wait()
        for agent in agents.values():
            running.push_async_callback(_stop, agent)
            await agent.start()
        for agent in agents.values():
            # Soak times begin with a dispatch: on a slow machine they would be over before the last agent is there.
            await agent.ready()
        yield Processes(world, f"http://127.0.0.1:{port}", control_plane, agents)


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


def _releases_in(directory: Path) -> Path:
    return directory / "published"


def _control_plane(directory: Path, port: int, road: Road, clock_arguments: Sequence[str]) -> Child:
    settings: Settings = {
        "store.path": database_in(directory),
        "listen.port": port,
        "trust.file": trust_file_in(directory),
        "releases.directory": _releases_in(directory),
        **road.control_plane,
    }
    return control_plane_in(directory, settings, clock_arguments)


def _agent(directory: Path, host: DemoHost, road: Road, clock_arguments: Sequence[str]) -> Child:
    (host.directory / "manifests").mkdir()
    settings: Settings = {
        **road.agents,
        "trust.file": trust_file_in(directory),
    }
    return agent_in(host.directory, host.hostname, settings, clock_arguments)
