"""The world of the demonstration: a scratch directory with a whole fleet in it, running.

    keys/ fleet.toml releases/<ref>/         what CI would have
    control-plane.db                         what the control plane has
    hosts/<name>/{store,profile,journal.db}  what each machine has

Everything is real but the network (agents and control plane share this process) and the speed of the clock.
Hosts run their first closure before their agents start, as a machine does after its installation.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path

from attrs import frozen

from nixfleet_agent import service as agent
from nixfleet_agent.activator import SwitchCompleted
from nixfleet_agent.directory_activator import DirectoryActivator
from nixfleet_agent.journal import SqliteJournal
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_cli.demo.closures import ShopVersion, build_tree
from nixfleet_cli.demo.declaration import declaration_of, hostnames_of
from nixfleet_cli.demo.web import serving
from nixfleet_control_plane import service as control_plane
from nixfleet_control_plane.in_process import InProcessTransport
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_release import CheckedFleet, check, name_closures
from nixfleet_runtime.clock import Clock

FIRST_VERSION = ShopVersion(0)


@frozen
class DemoHost:
    """One machine: its place in the scratch directory, and where its server answers."""

    hostname: str
    directory: Path
    health_url: str

    @property
    def activator(self) -> DirectoryActivator:
        return DirectoryActivator(self.directory / "store", self.directory / "profile")


@frozen
class World:
    """What the story needs of a running fleet. `hosts` are in the order of their waves."""

    directory: Path
    clock: Clock
    release_key: SigningKey
    trust: TrustRoot
    checked: CheckedFleet
    hosts: tuple[DemoHost, ...]
    control_plane: ControlPlaneService

    @property
    def canary(self) -> DemoHost:
        return self.hosts[0]


def database_in(directory: Path) -> Path:
    """Return where the control plane of the world in `directory` has its database."""
    return directory / "control-plane.db"


def journal_in(directory: Path, hostname: str) -> Path:
    """Return where a host of the world in `directory` has its journal."""
    return _place_of(directory, hostname) / "journal.db"


@asynccontextmanager
async def running_world(directory: Path, host_count: int, clock: Clock) -> AsyncIterator[World]:
    """Make a fleet in `directory`, an empty one, and run it while the context is open."""
    key, trust = _keys(directory)
    with ExitStack() as stack:
        hosts = _machines(directory, host_count, stack)
        checked = _declare(directory, hosts)
        await _install(checked, hosts, directory)
        store = stack.enter_context(closing(SqliteStore(database_in(directory))))
        async with AsyncExitStack() as running:
            service = await running.enter_async_context(control_plane.running(store, clock))
            for host in hosts:
                journal = stack.enter_context(
                    closing(SqliteJournal(journal_in(directory, host.hostname)))
                )
                transport = InProcessTransport(service, host.hostname)
                ports = AgentPorts(journal, transport, host.activator, clock, trust)
                settings = AgentSettings(host.hostname)
                await running.enter_async_context(agent.running(settings, ports))
            yield World(directory, clock, key, trust, checked, hosts, service)


def build_closures(
    checked: CheckedFleet, hosts: tuple[DemoHost, ...], version: ShopVersion, directory: Path
) -> Mapping[str, str]:
    """Build `version` for each host, put it into that host's store, and return the closures by host.

    directory: the world's. Raises: what `name_closures` raises.
    """
    trees = {
        host.hostname: build_tree(directory / "build" / host.hostname, version) for host in hosts
    }
    closures = name_closures(checked, trees)
    for host in hosts:
        closure = closures[host.hostname]
        trees[host.hostname].rename(host.activator.root_of(closure))
    return closures


def _place_of(directory: Path, hostname: str) -> Path:
    return directory / "hosts" / hostname


def _keys(directory: Path) -> tuple[SigningKey, TrustRoot]:
    key = SigningKey.generate()
    trust = TrustRoot(KeySlot(key.public_key))
    keys = directory / "keys"
    keys.mkdir()
    key.save(keys / "ci-release.key")
    (keys / "trust.json").write_bytes(encode_trust_root(trust))
    return key, trust


def _machines(directory: Path, count: int, stack: ExitStack) -> tuple[DemoHost, ...]:
    """Make the machines, and start their servers, which `stack` stops."""
    hosts: list[DemoHost] = []
    for hostname in hostnames_of(count):
        place = _place_of(directory, hostname)
        (place / "store").mkdir(parents=True)
        url = stack.enter_context(serving(place / "profile"))
        hosts.append(DemoHost(hostname, place, url))
    return tuple(hosts)


def _declare(directory: Path, hosts: tuple[DemoHost, ...]) -> CheckedFleet:
    file = directory / "fleet.toml"
    file.write_text(declaration_of({host.hostname: host.health_url for host in hosts}))
    return check(file)


async def _install(checked: CheckedFleet, hosts: tuple[DemoHost, ...], directory: Path) -> None:
    closures = build_closures(checked, hosts, FIRST_VERSION, directory)
    for host in hosts:
        outcome = await host.activator.switch(closures[host.hostname])
        assert isinstance(outcome, SwitchCompleted), outcome
