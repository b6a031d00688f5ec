"""A machine with an agent of its own, and a control plane beside it. Skipped where there can be none."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute
from attrs import define

from nixfleet_cli.demo.sides import Settings
from nixfleet_proto.ids import RolloutId
from nixfleet_release import release
from nixfleet_release.build.closures import render_health_checks
from nixfleet_runtime.config.check import toml_text
from tests.faults.site import CHANNEL, Site, make_site
from tests.machines.bench import Machine, missing
from tests.machines.systems import AGENT_UNIT, System, lay

HOSTNAME = "web-01"
SWITCH_SECONDS_MAX = 20
DEAD_MAN_SECONDS = 30
AGENT = str(Path(sys.executable).with_name("nixfleet"))


@define
class Bench:
    """A machine, its host's directory, and the site with the control plane."""

    machine: Machine
    site: Site

    def build(self, system: System) -> str:
        """Put a system into the machine's store; return its closure name."""
        tree = self.site.directory / "build" / f"nixos-system-{system.name}"
        lay(system, tree, AGENT, f"/site/{HOSTNAME}/agent.toml")
        render_health_checks(tree, self.site.checked.health_checks[HOSTNAME])
        path = self.machine.run("nix-store", "--add", f"/site/build/{tree.name}").strip()
        return Path(path).name

    def publish(self, channel_ref: str, closure: str) -> RolloutId:
        """Release `closure` to the host."""
        release(
            self.site.checked,
            {HOSTNAME: closure},
            self.site.directory / "releases",
            channel_ref=channel_ref,
            signed_at=datetime.now(UTC),
            key=self.site.release_key,
        )
        return RolloutId.of(CHANNEL, channel_ref)

    def running(self) -> str:
        """Return the closure that runs."""
        return Path(self.machine.run("readlink", "/run/current-system").strip()).name

    def timers(self) -> str:
        """Return the timers that wait."""
        return self.machine.run("systemctl", "list-timers", "--no-pager")

    def switch_by_hand(self, closure: str) -> None:
        """Do as somebody at the console of the machine would, to have `closure` again."""
        self.machine.run("systemctl", "stop", "nixfleet-switch.service", check=False)
        path = f"/nix/store/{closure}"
        self.machine.run("nix-env", "-p", "/nix/var/nix/profiles/system", "--set", path)
        self.machine.run(f"{path}/bin/switch-to-configuration", "switch", check=False)
        self.machine.run("systemctl", "start", AGENT_UNIT)


@pytest.fixture
async def probed_port() -> AsyncIterator[int]:
    """A port where somebody listens, for probes to find."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener:
        yield listener.extra(SocketAttribute.local_port)


@pytest.fixture
async def bench(tmp_path: Path, probed_port: int) -> AsyncIterator[Bench]:
    """A machine without a system, and a control plane that runs."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "site").mkdir()
    (tmp_path / "machine").mkdir()
    site = make_site(
        tmp_path / "site",
        [HOSTNAME],
        probed_port,
        soak_minutes=0,
        on_health_failure="rollback-and-halt",
    )
    (site.directory / "build").mkdir()
    settings: Settings = {
        "hostname": HOSTNAME,
        "control_plane.url": site.url,
        "trust.file": "../trust.json",
        "identity.key_file": "host.key",
        "journal.path": "journal.db",
        "manifests.cache_directory": "manifests",
        "activator.kind": "nixos",
        "activator.poll_interval_seconds": 0.2,
        "activator.switch_timeout_seconds": SWITCH_SECONDS_MAX,
        "activator.dead_man_seconds": DEAD_MAN_SECONDS,
        "ticks.tick_seconds": 0.2,
        "ticks.heartbeat_seconds": 0.5,
    }
    config = site.hosts[0].directory / "agent.toml"
    config.write_text("".join(f"{name} = {toml_text(value)}\n" for name, value in settings.items()))
    try:
        with Machine(tmp_path / "machine", site.directory) as machine:
            await site.control_plane.start_and_wait()
            yield Bench(machine, site)
            await site.control_plane.stop()
            # Shown with a test that fails.
            print(machine.run("journalctl", "--no-pager", "--lines=200", check=False))  # noqa: T201
    finally:
        site.leave_nothing_running()
