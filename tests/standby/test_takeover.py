"""A standby takes over: from a leader that was killed, that stands still, that is stopped in order."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.witness import Witness
from tests.standby.conftest import NewPlanes
from tests.standby.planes import Planes
from tests.standby.shared_log import SharedAudit, audit_of

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02")


@asynccontextmanager
async def _under_load(
    new_site: NewSite, new_planes: NewPlanes
) -> AsyncIterator[tuple[Planes, Witness, SharedAudit]]:
    """Two control planes, of which the first leads, and hosts that report."""
    site = new_site(HOSTNAMES, soak_minutes=170)
    await site.install("r0")
    planes = new_planes(site)
    for plane in planes.planes:
        await plane.child.start_and_wait()
        await planes.leader()
    await planes.planes[1].until_it_stands_by()
    site.publish("r1")
    witness = Witness()
    async with audit_of(site, planes.target) as audit:
        async with agents_of(site, witness, url=planes.urls):
            await witness.more_acknowledged(10)
            yield planes, witness, audit
        await audit.read_on()
        audit.require(witness)
        audit.require_hosts()
    for plane in planes.planes:
        assert await plane.child.stop() == 0


async def test_a_standby_names_the_leader_and_answers_nothing_else(
    new_site: NewSite, new_planes: NewPlanes
) -> None:
    """It is healthy, not ready, and has metrics; every other call is refused with where to go."""
    planes = new_planes(new_site(HOSTNAMES, soak_minutes=0))
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


async def test_a_standby_takes_over_from_a_leader_that_was_killed(
    new_site: NewSite, new_planes: NewPlanes
) -> None:
    """Hosts go on with it; what was killed comes back as a standby."""
    async with _under_load(new_site, new_planes) as (planes, witness, audit):
        first, second = planes.planes
        await first.child.kill()
        await second.until_it_leads()
        await witness.more_acknowledged(10)
        await audit.read_on()
        audit.require(witness)
        await first.child.start_and_wait()
        await first.until_it_stands_by()


async def test_a_standby_takes_over_from_a_leader_that_stands_still(
    new_site: NewSite, new_planes: NewPlanes
) -> None:
    """When its lease is over; what wakes up is fenced, writes nothing, and follows."""
    async with _under_load(new_site, new_planes) as (planes, witness, audit):
        first, second = planes.planes
        os.kill(first.child.pid, signal.SIGSTOP)
        await second.until_it_leads()
        await witness.more_acknowledged(10)
        os.kill(first.child.pid, signal.SIGCONT)
        await first.until_it_stands_by()
        await audit.read_on()
        audit.require(witness)


async def test_a_leader_that_is_stopped_hands_over(
    new_site: NewSite, new_planes: NewPlanes
) -> None:
    """It ends well, and hosts go on with the standby."""
    async with _under_load(new_site, new_planes) as (planes, witness, _):
        first, second = planes.planes
        assert await first.child.stop() == 0
        await second.until_it_leads()
        await witness.more_acknowledged(10)
