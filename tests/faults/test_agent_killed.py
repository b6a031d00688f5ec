"""Agents are killed, again and again, between whatever they do. What they lived is never lost, nor lived twice."""

import random
from contextlib import closing

import pytest

from tests.faults.conftest import NewSite
from tests.faults.waiting import more_facts
from tests.faults.witness import Audit

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02", "web-03", "web-04")
KILLS_PER_RELEASE = 8


async def test_killed_at_any_moment_it_goes_on_where_its_journal_ends(
    new_site: NewSite, kills: int, chance: random.Random
) -> None:
    """After each SIGKILL the log has a prefix of what the host lived, and what a journal calls acknowledged."""
    site = new_site(HOSTNAMES, soak_minutes=170)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    agents = [site.agent_process(host) for host in site.hosts]
    for agent in agents:
        await agent.start_and_wait()
    with closing(Audit(site)) as audit:
        for kill in range(kills):
            if kill % KILLS_PER_RELEASE == 0:
                site.publish(f"r{1 + kill // KILLS_PER_RELEASE}")
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
        print(f"{kills} kills, {len(audit.facts)} facts, none lost")
