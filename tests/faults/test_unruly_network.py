"""Between agents and control plane, requests and answers are lost, late, doubled, cut off and out of order."""

import random
from contextlib import closing

import pytest

from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.unruly_proxy import Mishap, proxying
from tests.faults.waiting import terminal
from tests.faults.witness import Audit, Witness

pytestmark = pytest.mark.anyio

KILLS_PER_RELEASE = 5
HOSTNAMES = ("web-01", "web-02", "web-03")


async def test_whatever_the_network_does_rollouts_end_and_nothing_acknowledged_is_lost(
    new_site: NewSite, kills: int, chance: random.Random
) -> None:
    """Every mishap befalls somebody, every rollout is Terminal in the end, and the two sides agree."""
    site = new_site(HOSTNAMES, soak_minutes=0)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    witness = Witness()
    with closing(Audit(site)) as audit:
        async with (
            proxying(site.port, chance) as (url, proxy),
            agents_of(site, witness, url=url),
        ):
            release = 0
            while release < kills // KILLS_PER_RELEASE or set(proxy.befallen) != set(Mishap):
                release += 1
                await terminal(audit, site.publish(f"r{release}"))
                audit.require(witness)
                audit.require_hosts()
        assert await site.control_plane.stop() == 0
    print(
        f"{release} rollouts, {len(witness.acknowledged)} facts acknowledged, none lost; {proxy.befallen}"
    )
