"""Hosts over NATS, while agents, the control plane and the server are killed, frozen, or repeat themselves.

What was acknowledged is in the log once, whatever happened to whom.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nixfleet_cli.demo.sides import Settings
from nixfleet_nats.agent_end import connected
from nixfleet_nats.connection import Message, connect
from nixfleet_nats.names import Names
from nixfleet_nats.server_config import ServerConfig
from nixfleet_nats.target import Target
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.headers import SIGNATURE
from tests.faults.agents import Connect, agents_of
from tests.faults.conftest import KILLS_DEFAULT, NewSite
from tests.faults.site import Site
from tests.faults.waiting import more_facts
from tests.faults.witness import Audit, Witness
from tools.nats.server import Server, running_server, why_not

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web.02")
KILLS_PER_RELEASE = 8
KILLS_EACH = 5
"""Of as many kills as are asked for elsewhere, one in so many is done here."""


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
    return max(1, kills // KILLS_EACH)


async def test_a_control_plane_that_is_killed_has_everything_it_acknowledged_once(
    new_site: NewSite, fleet: Fleet, few: int, chance: random.Random
) -> None:
    """After each SIGKILL under load, every fact whose acceptance came over NATS is in the log once."""
    site = fleet.site(new_site)
    site.publish("r1")
    await site.install("r0")
    await site.control_plane.start_and_wait()
    witness = Witness()
    with closing(Audit(site)) as audit:
        async with agents_of(site, witness, connect=fleet.connect):
            for kill in range(few):
                if kill % KILLS_PER_RELEASE == KILLS_PER_RELEASE - 1:
                    site.publish(f"r{2 + kill // KILLS_PER_RELEASE}")
                await witness.more_acknowledged(chance.randint(1, 10))
                await witness.more_posts(chance.randint(1, 5))
                await site.control_plane.kill()

                audit.read_on()
                audit.require(witness)
                audit.require_hosts()
                await site.control_plane.start_and_wait()
            await witness.more_acknowledged(1)
        await _require_in_the_end(site, audit, witness)


async def test_an_agent_that_is_killed_goes_on_where_its_journal_ends(
    new_site: NewSite, fleet: Fleet, few: int, chance: random.Random
) -> None:
    """Both sides are processes that see each other over NATS alone; the name of a host has a dot."""
    site = fleet.site(new_site)
    site.publish("r1")
    await site.install("r0")
    await site.control_plane.start_and_wait()
    agents = [site.agent_process(host) for host in site.hosts]
    for agent in agents:
        await agent.start()
    for agent in agents:
        await agent.ready()
    with closing(Audit(site)) as audit:
        for _ in range(few):
            await more_facts(audit, chance.randint(1, 15))
            victim = chance.choice(agents)
            await victim.kill()

            audit.read_on()
            audit.require_hosts()
            audit.require_acknowledged()
            await victim.start_and_wait()
        await more_facts(audit, 1)
        for child in (*agents, site.control_plane):
            assert await child.stop() == 0, child.log.read_text()[-2000:]
        audit.read_on()
        audit.require_hosts()
        audit.require_acknowledged()


async def test_a_server_that_is_killed_or_stands_still_loses_no_fact(
    new_site: NewSite, fleet: Fleet, few: int, chance: random.Random
) -> None:
    """Both sides connect again by themselves, and what was on its way is sent again."""
    site = fleet.site(new_site)
    site.publish("r1")
    await site.install("r0")
    await site.control_plane.start_and_wait()
    witness = Witness()
    with closing(Audit(site)) as audit:
        async with agents_of(site, witness, connect=fleet.connect):
            for _ in range(few):
                await witness.more_acknowledged(chance.randint(1, 20))
                await witness.more_posts(chance.randint(1, 3))
                if chance.random() < 0.5:
                    fleet.server.kill()
                    fleet.server.start()
                else:
                    fleet.server.freeze()
                    await witness.more_posts(1)
                    fleet.server.thaw()
                audit.read_on()
                audit.require(witness)
                audit.require_hosts()
            await witness.more_acknowledged(1)
        await _require_in_the_end(site, audit, witness)


async def test_requests_that_arrive_twice_are_taken_once(new_site: NewSite, fleet: Fleet) -> None:
    """Whoever repeats every request of every host adds nothing to the log, and takes no answer away."""
    site = fleet.site(new_site)
    site.publish("r1")
    await site.install("r0")
    await site.control_plane.start_and_wait()
    witness, names = Witness(), fleet.target.names
    repeated: set[str] = set()
    # With the control plane's own key, for nobody else can hear and say this.
    echo = await connect(fleet.target, fleet.key, "echo", names.inbox("echo"))

    async def again(message: Message) -> None:
        headers = message.headers or {}
        if headers[SIGNATURE] not in repeated:
            repeated.add(headers[SIGNATURE])
            await echo.publish(message.subject, message.data, headers, f"{echo.inbox}.answers")

    try:
        await echo.subscribe(names.all_up, again)
        with closing(Audit(site)) as audit:
            async with agents_of(site, witness, connect=fleet.connect):
                await witness.more_acknowledged(4 * len(HOSTNAMES))
            await _require_in_the_end(site, audit, witness)
    finally:
        await echo.close()
    assert len(repeated) >= 4


def test_the_demonstration_ends_over_nats_as_over_http(fleet: Fleet, kills: int) -> None:
    """Processes, of which two are killed, and a server of their own."""
    if kills <= KILLS_DEFAULT:
        pytest.skip("takes half a minute: make test-faults runs it")
    command = ["demo", "--processes", "--transport", "nats", "--speed", "120"]
    done = subprocess.run(
        [sys.executable, "-m", "nixfleet_cli", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every agent's own journal says the same" in done.stdout


async def _require_in_the_end(site: Site, audit: Audit, witness: Witness) -> None:
    assert await site.control_plane.stop() == 0, site.control_plane.log.read_text()[-2000:]
    audit.read_on()
    audit.require(witness)
    audit.require_hosts()
    audit.require_acknowledged()
