"""The control plane is killed, again and again, while hosts report. What it acknowledged is never lost."""

import random
from contextlib import closing

import pytest

from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.witness import Audit, Witness

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02", "web-03", "web-04")
KILLS_PER_RELEASE = 10


async def test_killed_at_any_moment_it_has_everything_it_acknowledged_once(
    new_site: NewSite, kills: int, chance: random.Random
) -> None:
    """After each SIGKILL under load, every fact that was answered 204 is in the log once, and no record differs."""
    site = new_site(HOSTNAMES, soak_minutes=170)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    witness = Witness()
    with closing(Audit(site)) as audit:
        async with agents_of(site, witness):
            for kill in range(kills):
                if kill % KILLS_PER_RELEASE == 0:
                    site.publish(f"r{1 + kill // KILLS_PER_RELEASE}")
                await witness.more_acknowledged(chance.randint(1, 30))
                await witness.more_posts(chance.randint(1, 5))
                await site.control_plane.kill()

                audit.read_on()
                audit.require(witness)
                audit.require_hosts()
                await site.control_plane.start_and_wait()
            await witness.more_acknowledged(1)
        assert await site.control_plane.stop() == 0
        audit.read_on()
        audit.require(witness)
        audit.require_hosts()
        audit.require_acknowledged()
    print(f"{kills} kills, {len(witness.acknowledged)} facts acknowledged, none lost")
