"""Hosts over NATS, while agents, the control plane and the server are killed, frozen, or repeat themselves.

What was acknowledged is in the log once, whatever happened to whom.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nixfleet_cli.demo.sides import Settings
from nixfleet_nats.agent_end import connected
from nixfleet_nats.names import Names
from nixfleet_nats.server_config import ServerConfig
from nixfleet_nats.target import Target
from nixfleet_proto.signing import SigningKey
from tests.faults.agents import Connect
from tests.faults.conftest import NewSite
from tests.faults.site import Site
from tests.faults.waiting import more_facts
from tests.faults.witness import Audit
from tools.nats.server import Server, running_server, why_not

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web.02", "web_03")
KILLS_PER_RELEASE = 8
KILLS_EACH = 10
"""Of as many kills as are asked for elsewhere, one in so many is done here, but three at least."""


class Fleet:
    """A server, and the settings of a site whose hosts are on it."""

    def __init__(self, server: Server, key: SigningKey, directory: Path) -> None:
        self.server = server
        self.key = key
        self.target = Target((server.url,), Names())
        key_file = directory / "nats.key"
        key.save(key_file)
        self.control_plane_settings: Settings = {
            "transports.nats.kind": "nats",
            "transports.nats.url": server.url,
            "transports.nats.key_file": str(key_file),
        }
        self.agent_settings: Settings = {
            "control_plane.kind": "nats",
            "control_plane.url": server.url,
        }

    def site(self, new_site: NewSite, soak_minutes: int = 170) -> Site:
        return new_site(
            HOSTNAMES,
            soak_minutes=soak_minutes,
            control_plane_settings=self.control_plane_settings,
            agent_settings=self.agent_settings,
        )

    @property
    def connect(self) -> Connect:
        return partial(connected, self.target)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server of its own, for it is killed."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    key = SigningKey.generate()
    with (
        TemporaryDirectory(prefix="nixfleet-nats-") as directory,
        running_server(Path(directory), ServerConfig(key.public_key, Path())) as server,
    ):
        yield Fleet(server, key, tmp_path)


@pytest.fixture
def few(kills: int) -> int:
    """How many times somebody is killed here."""
    return max(3, kills // KILLS_EACH)


async def test_a_release_reaches_hosts_over_nats_alone(new_site: NewSite, fleet: Fleet) -> None:
    """Both sides are processes; a name has a dot; the rollout ends."""
    site = fleet.site(new_site, soak_minutes=1)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    agents = [site.agent_process(host) for host in site.hosts]
    for agent in agents:
        await agent.start_and_wait()
    with closing(Audit(site)) as audit:
        site.publish("r1")
        await more_facts(audit, 3 * len(HOSTNAMES))
        for child in (*agents, site.control_plane):
            assert await child.stop() == 0, child.log.read_text()[-2000:]
        audit.read_on()
        audit.require_hosts()
        audit.require_acknowledged()
