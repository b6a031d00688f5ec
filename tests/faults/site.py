"""A control plane as a process, and what CI, hosts and operators need to deal with it. Everything is real.

`Site` is where it all lies: keys, releases, the database. Hosts are agents in the test's own process (`agent_of`) or
processes of their own (`agent_process`); both talk to the control plane over HTTP, under keys that the fleet declares.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import Factory, field, frozen

from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_cli.demo.child import Child
from nixfleet_cli.demo.sides import Settings, agent_in, control_plane_in, free_port
from nixfleet_proto.codec import encode_signed_token, encode_trust_root
from nixfleet_proto.enrollment import BootstrapNonce, BootstrapToken
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, fingerprint_of, sign_token
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_release import Admission, CheckedFleet, check, name_closures, release

CHANNEL = "stable"

_FLEET = """\
[fleet]
name = "faults"

[channels.stable]
policy = "at-once"

[policies.at-once]
on_health_failure = "{on_health_failure}"

[[policies.at-once.waves]]
rest = true
soak_minutes = {soak_minutes}

[health_checks.often]
kind = "tcp"
host = "127.0.0.1"
port = {probed_port}
interval_seconds = 1
mode = "observe"
"""

_DECLARED_HOST = """
[hosts."{hostname}"]
channel = "stable"
pubkey = "{pubkey}"
"""

_ENROLLED_HOST = """
[hosts."{hostname}"]
channel = "stable"
"""

FAILING_SWITCH = "#!/bin/sh\nexit 1\n"
NO_SETTINGS: Settings = FrozenMap[str, str | int | float | Path]()
TOKEN_LIFETIME = timedelta(days=1)


@frozen
class Host:
    """One machine of the site."""

    hostname: str
    directory: Path
    key: SigningKey

    @property
    def journal(self) -> Path:
        return self.directory / "journal.db"

    @property
    def activator(self) -> DirectoryActivator:
        return DirectoryActivator(self.directory / "store", self.directory / "profile")


@frozen
class Site:
    """A directory with a control plane in it that listens at `port`, and its hosts. Made by the fixture `new_site`."""

    directory: Path
    hosts: tuple[Host, ...]
    release_key: SigningKey
    trust: TrustRoot
    checked: CheckedFleet
    clock_arguments: tuple[str, ...]
    operator_key: SigningKey
    admission: Admission | None = None
    control_plane_settings: Settings = NO_SETTINGS
    agent_settings: Settings | None = None
    agents: list[Child] = field(factory=list[Child])
    port: int = field(factory=free_port)
    control_plane: Child = field(
        default=Factory(lambda self: _control_plane(self), takes_self=True)
    )

    @property
    def database(self) -> Path:
        return self.directory / "control-plane.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, channel_ref: str, *, script: str | None = None) -> RolloutId:
        """Release a new closure to every host. script: what switches to it, if anything does."""
        closures = self._build(channel_ref, script)
        release(
            self.checked,
            closures,
            self.directory / "releases",
            channel_ref=channel_ref,
            signed_at=datetime.now(UTC),
            key=self.release_key,
            admission=self.admission,
        )
        return RolloutId.of(CHANNEL, channel_ref)

    def agent_process(
        self, host: Host, *, url: str | None = None, probe_seconds: float = 0.1
    ) -> Child:
        """Return the agent of `host` as a process that has yet to be started."""
        settings: Settings = {
            **(self.agent_settings or {"control_plane.url": url or self.url}),
            "trust.file": "../trust.json",
            "probes.interval_seconds_min": probe_seconds,
            "ticks.tick_seconds": 0.1,
            "ticks.heartbeat_seconds": 0.5,
        }
        if self.admission is not None:
            settings = {**settings, "identity.bootstrap_token_file": "token.json"}
        agent = agent_in(host.directory, host.hostname, settings, self.clock_arguments)
        self.agents.append(agent)
        return agent

    def leave_nothing_running(self) -> None:
        """End at once whatever still runs: a test that failed has not stopped it."""
        for child in (self.control_plane, *self.agents):
            child.make_sure_it_ended()

    async def install(self, channel_ref: str) -> None:
        """Let every host run a first closure, as after its installation."""
        closures = self._build(channel_ref)
        for host in self.hosts:
            await host.activator.switch(closures[host.hostname])

    def _build(self, channel_ref: str, script: str | None = None) -> Mapping[str, str]:
        trees: dict[str, Path] = {}
        for host in self.hosts:
            tree = host.directory / "build" / f"system-{channel_ref}"
            tree.mkdir(parents=True)
            (tree / "release").write_text(channel_ref)
            if script is not None:
                (tree / "bin").mkdir()
                (tree / "bin" / "switch-to-configuration").write_text(script)
                (tree / "bin" / "switch-to-configuration").chmod(0o755)
            trees[host.hostname] = tree
        closures = name_closures(self.checked, trees)
        for host in self.hosts:
            trees[host.hostname].rename(host.activator.root_of(closures[host.hostname]))
        return closures


def make_site(
    directory: Path,
    hostnames: Sequence[str],
    probed_port: int,
    *,
    soak_minutes: int,
    clock_arguments: tuple[str, ...] = (),
    are_enrolled: bool = False,
    on_health_failure: str = "halt",
    control_plane_settings: Settings = NO_SETTINGS,
    agent_settings: Settings | None = None,
) -> Site:
    """Make everything that a control plane and the hosts need, in `directory`, an empty one.

    are_enrolled: hosts have tokens, instead of keys in the declaration.
    clock_arguments: what the processes are told of the time, if it is not the machine's.
    control_plane_settings: beside the usual. agent_settings: where agents find the control plane, if not by HTTP.
    """
    key = SigningKey.generate()
    org_key, operator_key = SigningKey.generate(), SigningKey.generate()
    alice = Operator("alice", operator_key.public_key, OperatorRole.OPERATE)
    trust = TrustRoot(
        KeySlot(key.public_key), org_root_key=KeySlot(org_key.public_key), operators=(alice,)
    )
    (directory / "trust.json").write_bytes(encode_trust_root(trust))
    (directory / "releases").mkdir()
    hosts = tuple(_host(directory / hostname) for hostname in hostnames)
    fleet = directory / "fleet.toml"
    host_text = _ENROLLED_HOST if are_enrolled else _DECLARED_HOST
    fleet.write_text(
        _FLEET.format(
            soak_minutes=soak_minutes,
            probed_port=probed_port,
            on_health_failure=on_health_failure,
        )
        + "".join(
            host_text.format(hostname=host.hostname, pubkey=host.key.public_key.public_key)
            for host in hosts
        )
    )
    admission = _tokens_for(hosts, org_key) if are_enrolled else None
    return Site(
        directory,
        hosts,
        key,
        trust,
        check(fleet),
        clock_arguments,
        operator_key,
        admission,
        control_plane_settings,
        agent_settings,
    )


def _tokens_for(hosts: Sequence[Host], org_key: SigningKey) -> Admission:
    """Give each host a token, and return the nonces that releases have to list."""
    now = datetime.now(UTC)
    nonces: list[BootstrapNonce] = []
    for host in hosts:
        fingerprint, nonce = fingerprint_of(host.key.public_key), f"nonce-of-{host.hostname}"
        until = now + TOKEN_LIFETIME
        token = BootstrapToken(host.hostname, fingerprint, now, until, nonce)
        file = host.directory / "token.json"
        file.touch(mode=0o600)
        file.write_bytes(encode_signed_token(sign_token(token, org_key)))
        nonces.append(BootstrapNonce(nonce, host.hostname, until))
    return Admission(nonces=tuple(nonces))


def _control_plane(site: Site) -> Child:
    settings: Settings = {
        "store.path": site.database,
        "listen.port": site.port,
        "trust.file": "trust.json",
        "releases.directory": "releases",
        "releases.poll_seconds": 0.1,
        "ticks.plan_seconds": 0.2,
        **site.control_plane_settings,
    }
    return control_plane_in(site.directory, settings, site.clock_arguments)


def _host(directory: Path) -> Host:
    for name in ("store", "manifests"):
        (directory / name).mkdir(parents=True)
    key = SigningKey.generate()
    key.save(directory / "host.key")
    return Host(directory.name, directory, key)
