"""Whatever happens to a leader, a standby takes over, and nothing that was acknowledged is lost or there twice."""

import os
import random
import statistics

import anyio
import pytest

from nixfleet_postgres.target import Target
from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.witness import Witness
from tests.postgres.proxy import Proxy
from tests.standby.conftest import NewPlanes
from tests.standby.mishaps import Mishap, Stage
from tests.standby.shared_log import audit_of
from tools.postgres.server import Server

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02")
MISHAPS_PER_RELEASE = 10


async def test_a_standby_names_the_leader_and_answers_nothing_else(
    new_site: NewSite, new_planes: NewPlanes, target: Target
) -> None:
    """It is healthy, not ready, and has metrics; every other call is refused with where to go."""
    planes = new_planes(new_site(HOSTNAMES, soak_minutes=0), [target, target])
    leader, standby = planes.planes
    await leader.child.start_and_wait()
    await leader.until_it_leads()
    await standby.child.start_and_wait()
    await standby.until_it_stands_by()

    health = await standby.get("/healthz")
    assert health is not None
    assert health.status_code == 200
    assert f"standby of {leader.url}" in health.text
    metrics = await standby.get("/metrics")
    assert metrics is not None
    for line in ("nixfleet_leader 0.0", "nixfleet_leader_epoch 1.0", "nixfleet_takeovers 0.0"):
        assert line in metrics.text
    for path in ("/v1/agent/dispatch?wait=0", "/v1/rollouts", "/nothing"):
        refused = await standby.get(path)
        assert refused is not None
        assert refused.status_code == 503
        assert refused.headers["X-Nixfleet-Leader"] == leader.url
        assert refused.headers["Retry-After"] == "1"
        problem = refused.json()
        assert problem["type"] == "urn:nixfleet:problem:standby"
        assert problem["leader"] == leader.url
    for plane in (standby, leader):
        assert await plane.child.stop() == 0


async def test_whatever_happens_to_leaders_no_acknowledged_fact_is_lost(
    new_site: NewSite,
    new_planes: NewPlanes,
    ways: tuple[list[Target], list[Proxy]],
    server: Server,
    chance: random.Random,
) -> None:
    """After each mishap under load: every fact that was answered 204 is in the log once, and no record differs."""
    site = new_site(HOSTNAMES, soak_minutes=170)
    await site.install("r0")
    targets, proxies = ways
    lease_seconds = float(os.environ.get("FAULTS_LEASE_SECONDS", "1"))
    planes = new_planes(site, targets, lease_seconds=lease_seconds)
    stage = Stage(planes, proxies, server)
    async with anyio.create_task_group() as starting:
        for plane in planes.planes:
            starting.start_soon(plane.child.start_and_wait)
    mishaps = list(Mishap) * int(os.environ.get("FAULTS_TAKEOVERS", "1"))
    chance.shuffle(mishaps)
    witness = Witness()
    async with audit_of(site, server.target(site.directory, planes.target.schema)) as audit:
        async with agents_of(site, witness, url=planes.urls):
            for number, mishap in enumerate(mishaps):
                if number % MISHAPS_PER_RELEASE == 0:
                    site.publish(f"r{1 + number // MISHAPS_PER_RELEASE}")
                await witness.more_acknowledged(chance.randint(1, 5))
                await witness.more_posts(chance.randint(1, 3))
                await stage.let(mishap)
                await audit.read_on()
                audit.require(witness)
                audit.require_hosts()
            await witness.more_acknowledged(1)
        await audit.read_on()
        audit.require(witness)
        audit.require_hosts()
    for plane in planes.planes:
        assert await plane.child.stop() == 0
    for mishap, seconds in stage.seconds.items():
        median, most = statistics.median(seconds), max(seconds)
        print(f"{mishap.name}: {len(seconds)}, {median:.2f} s in the median, {most:.2f} s at most")
    print(f"{len(mishaps)} mishaps, {len(witness.acknowledged)} facts acknowledged, none lost")
