"""The disk of either side is full for a while. Nothing that was acknowledged is lost, and it goes on by itself."""

from contextlib import closing

import anyio
import pytest

from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.full_disk import full_disk
from tests.faults.waiting import more_facts
from tests.faults.witness import Audit, Witness

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02")
PATIENCE_SECONDS = 60.0


async def test_a_control_plane_without_room_refuses_and_goes_on_when_there_is_room(
    new_site: NewSite,
) -> None:
    """While its disk is full nothing is acknowledged; afterwards the hosts' facts arrive, each once."""
    site = new_site(HOSTNAMES, soak_minutes=170)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    site.publish("r1")
    witness = Witness()
    with closing(Audit(site)) as audit, anyio.fail_after(PATIENCE_SECONDS):
        async with agents_of(site, witness):
            await witness.more_acknowledged(10)
            with full_disk(site.control_plane.pid):
                # Those that were under way when it became full may have got through.
                await witness.more_posts(len(HOSTNAMES))
                acknowledged = len(witness.acknowledged)
                await witness.more_posts(4)
                assert len(witness.acknowledged) == acknowledged
            await witness.more_acknowledged(10)
        assert await site.control_plane.stop() == 0
        audit.read_on()
        audit.require(witness)
        audit.require_hosts()


async def test_an_agent_without_room_does_not_end_and_goes_on_when_there_is_room(
    new_site: NewSite,
) -> None:
    """While its disk is full it lives nothing that it could not keep; afterwards its history goes on without a gap."""
    site = new_site(HOSTNAMES[:1], soak_minutes=170)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    agent = site.agent_process(site.hosts[0])
    await agent.start_and_wait()
    site.publish("r1")
    with closing(Audit(site)) as audit, anyio.fail_after(PATIENCE_SECONDS):
        await more_facts(audit, 10)
        with full_disk(agent.pid):
            await agent.said("could not be made durable")
        await more_facts(audit, 10)
        for child in (agent, site.control_plane):
            assert await child.stop() == 0
        audit.read_on()
        audit.require_hosts()
        audit.require_acknowledged()
