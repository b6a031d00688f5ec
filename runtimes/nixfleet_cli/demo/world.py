"""The world of the demonstration: a scratch directory with all that a fleet is made of, before anything runs in it.

    keys/ fleet.toml releases/<ref>/                  what CI would have
    control-plane.db                                  what the control plane has
    hosts/<name>/{store,profile,host.key,journal.db}  what each machine has

Hosts run their first closure before their agents start, as a machine does after its installation. Who lets the
runtimes run is `in_process` or `processes`.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from attrs import frozen

from nixfleet_agent.activation.activator import SwitchCompleted
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_cli.demo.closures import ShopVersion, build_tree
from nixfleet_cli.demo.declaration import DeclaredHost
from nixfleet_cli.demo.web import serving
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_release import CheckedFleet, check, name_closures
from nixfleet_runtime.kernel.clock import Clock

FIRST_VERSION = ShopVersion(0)
OPERATORS = ("ada", "bob")


@frozen
class Cast:
    """Who is in a story, in the order of the waves, and what declares them. off: those that are off at first."""

    hostnames: tuple[str, ...]
    declare: Callable[[Mapping[str, DeclaredHost]], str]
    off: frozenset[str] = frozenset()


@frozen
class DemoHost:
    """One machine: its place in the scratch directory, and where its server answers."""

    hostname: str
    directory: Path
    health_url: str

    @property
    def activator(self) -> DirectoryActivator:
        return DirectoryActivator(self.directory / "store", self.directory / "profile")

    @property
    def key_file(self) -> Path:
        return self.directory / "host.key"


@frozen
class World:
    """What the story needs to know of its fleet. `hosts` are in the order of their waves."""

    directory: Path
    clock: Clock
    release_key: SigningKey
    trust: TrustRoot
    operators: Mapping[str, SigningKey]
    checked: CheckedFleet
    hosts: tuple[DemoHost, ...]

    @property
    def canary(self) -> DemoHost:
        return self.hosts[0]


def database_in(directory: Path) -> Path:
    """Return where the control plane of the world in `directory` has its database."""
    return directory / "control-plane.db"


def trust_file_in(directory: Path) -> Path:
    """Return where those who verify, in the world in `directory`, learn whom to believe."""
    return directory / "keys" / "trust.json"


def journal_in(directory: Path, hostname: str) -> Path:
    """Return where a host of the world in `directory` has its journal."""
    return _place_of(directory, hostname) / "journal.db"


@asynccontextmanager
async def made_world(directory: Path, cast: Cast, clock: Clock) -> AsyncIterator[World]:
    """Make the fleet of `cast` in `directory`, an empty one; its hosts' web servers run while the context is open."""
    operators = {name: SigningKey.generate() for name in OPERATORS}
    key, trust = _keys(directory, operators)
    with ExitStack() as stack:
        hosts = _machines(directory, cast.hostnames, stack)
        checked = _declare(directory, cast, hosts)
        await _install(checked, hosts, directory)
        yield World(directory, clock, key, trust, operators, checked, hosts)


def build_closures(
    checked: CheckedFleet,
    hosts: tuple[DemoHost, ...],
    version: ShopVersion,
    directory: Path,
    others: Mapping[str, ShopVersion] | None = None,
) -> Mapping[str, str]:
    """Build `version` for each host, put it into that host's store, and return the closures by host.

    directory: the world's. others: what single hosts get instead. Raises: what `name_closures` raises.
    """
    trees = {
        host.hostname: build_tree(
            directory / "build" / host.hostname, (others or {}).get(host.hostname, version)
        )
        for host in hosts
    }
    closures = name_closures(checked, trees)
    for host in hosts:
        closure = closures[host.hostname]
        trees[host.hostname].rename(host.activator.root_of(closure))
    return closures


def _place_of(directory: Path, hostname: str) -> Path:
    return directory / "hosts" / hostname


def _keys(directory: Path, operators: Mapping[str, SigningKey]) -> tuple[SigningKey, TrustRoot]:
    key = SigningKey.generate()
    known = (
        Operator(name, key.public_key, OperatorRole.OPERATE) for name, key in operators.items()
    )
    trust = TrustRoot(KeySlot(key.public_key), operators=tuple(known))
    keys = directory / "keys"
    keys.mkdir()
    key.save(keys / "ci-release.key")
    trust_file_in(directory).write_bytes(encode_trust_root(trust))
    return key, trust


def _machines(
    directory: Path, hostnames: tuple[str, ...], stack: ExitStack
) -> tuple[DemoHost, ...]:
    """Make the machines, and start their servers, which `stack` stops."""
    hosts: list[DemoHost] = []
    for hostname in hostnames:
        place = _place_of(directory, hostname)
        (place / "store").mkdir(parents=True)
        url = stack.enter_context(serving(place / "profile"))
        host = DemoHost(hostname, place, url)
        SigningKey.generate().save(host.key_file)
        hosts.append(host)
    return tuple(hosts)


def _declare(directory: Path, cast: Cast, hosts: tuple[DemoHost, ...]) -> CheckedFleet:
    file = directory / "fleet.toml"
    declared = {
        host.hostname: DeclaredHost(host.health_url, SigningKey.load(host.key_file).public_key)
        for host in hosts
    }
    file.write_text(cast.declare(declared))
    return check(file)


async def _install(checked: CheckedFleet, hosts: tuple[DemoHost, ...], directory: Path) -> None:
    closures = build_closures(checked, hosts, FIRST_VERSION, directory)
    for host in hosts:
        outcome = await host.activator.switch(closures[host.hostname])
        assert isinstance(outcome, SwitchCompleted), outcome
