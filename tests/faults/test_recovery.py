"""A control plane without its database, a host without its disk, and both started again together."""

from contextlib import closing
from datetime import UTC, datetime

import anyio
import pytest

from nixfleet_cli.shared.clock_option import clock_arguments
from nixfleet_cli.shared.operator_client import Address, operating
from nixfleet_control_plane.engine.state import State
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.commands import REASON, ReasonBody
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.faults.conftest import NewSite
from tests.faults.site import CHANNEL, FAILING_SWITCH, Site
from tests.faults.waiting import terminal, until
from tests.faults.witness import Audit

pytestmark = pytest.mark.anyio

HOSTNAMES = ("web-01", "web-02")
PATIENCE_SECONDS = 120.0
SPEED = 10.0


async def test_a_control_plane_that_lost_its_database_has_the_same_records_again(
    new_site: NewSite,
) -> None:
    """The hosts tell it everything anew, and it comes to the records that it had."""
    site = await _running_site(new_site, soak_minutes=0)
    agents = [site.agent_process(host, probe_seconds=600) for host in site.hosts]
    for agent in agents:
        await agent.start_and_wait()
    rollout_id = site.publish("r1")
    with closing(Audit(site)) as before, anyio.fail_after(PATIENCE_SECONDS):
        await terminal(before, rollout_id)
        had, facts = before.state.view.hosts_of(rollout_id), before.facts
    await site.control_plane.kill()
    for file in site.directory.glob("control-plane.db*"):
        file.unlink()

    await site.control_plane.start_and_wait()
    with closing(Audit(site)) as after, anyio.fail_after(PATIENCE_SECONDS):
        await terminal(after, rollout_id)
        after.require_hosts()
        assert after.facts == facts
        assert [record.state for record in had] == [
            record.state for record in after.state.view.hosts_of(rollout_id)
        ]
    for child in (*agents, site.control_plane):
        assert await child.stop() == 0


async def test_enrolled_hosts_come_back_without_hands_after_the_database_was_lost(
    new_site: NewSite,
) -> None:
    """What returns and what does not is what the guide lists; the agents' processes are never touched."""
    site = await _running_site(
        new_site, soak_minutes=0, are_enrolled=True, on_health_failure="rollback-and-halt"
    )
    agents = [site.agent_process(host, probe_seconds=600) for host in site.hosts]
    for agent in agents:
        await agent.start_and_wait()
    bad = site.publish("r1", script=FAILING_SWITCH)
    with closing(Audit(site)) as before, anyio.fail_after(PATIENCE_SECONDS):
        await until(before, lambda state: _is(state, bad, RolloutState.REVERTED))
        good = site.publish("r2")
        await terminal(before, good)
        await _pause(site, CHANNEL)
        await until(before, lambda state: bool(state.view.holds))
        had = before.state
        facts = {place: fact for place, fact in before.facts.items() if place[1] == good}
    await site.control_plane.kill()
    for file in site.directory.glob("control-plane.db*"):
        file.unlink()

    await site.control_plane.start_and_wait()
    with closing(Audit(site)) as after, anyio.fail_after(PATIENCE_SECONDS):
        await terminal(after, good)
        after.require_hosts()
        came_back = after.state
        # Releases and nonces, the keys of hosts, and the facts of what is in force.
        assert set(came_back.identities.ring.enrolled) == set(HOSTNAMES)
        assert had.identities.nonces.get() == came_back.identities.nonces.get() is not None
        assert after.facts == facts
        # Not: rollouts that were replaced, and what operators commanded.
        assert set(came_back.view.rollouts) == {good}
        assert not came_back.view.holds
    assert not any(agent.has_ended for agent in agents)
    for child in (*agents, site.control_plane):
        assert await child.stop() == 0


async def _pause(site: Site, channel: str) -> None:
    key_file = site.directory / "alice.key"
    site.operator_key.save(key_file)
    async with operating(Address(site.url, "alice", key_file), SystemClock()) as client:
        body = REASON.encode(ReasonBody("to see what a lost database loses"))
        await client.command(paths.channel_path(channel, "/pause"), body)


def _is(state: State, rollout_id: RolloutId, wanted: RolloutState) -> bool:
    record = state.view.rollouts.get(rollout_id)
    return record is not None and record.state is wanted


async def test_a_host_that_lost_its_disk_goes_on_where_the_control_plane_remembers_it(
    new_site: NewSite,
) -> None:
    """Its numbers go on, its rollout ends, and the control plane refuses nothing that it says."""
    site = await _running_site(new_site, soak_minutes=1)
    host = site.hosts[0]
    agents = [site.agent_process(each) for each in site.hosts]
    for agent in agents:
        await agent.start_and_wait()
    rollout_id = site.publish("r1")
    with closing(Audit(site)) as audit, anyio.fail_after(PATIENCE_SECONDS):
        await until(audit, lambda state: _soaks(state, rollout_id, host.hostname))
        await agents[0].kill()
        for file in host.directory.glob("journal.db*"):
            file.unlink()
        await agents[0].start_and_wait()
        await terminal(audit, rollout_id)
    for child in (*agents, site.control_plane):
        assert await child.stop() == 0


async def test_both_sides_that_are_killed_together_go_on_together(new_site: NewSite) -> None:
    """Everybody is killed in the middle of a rollout and started again; it ends as it would have."""
    site = await _running_site(new_site, soak_minutes=0)
    everybody = [site.control_plane, *(site.agent_process(host) for host in site.hosts)]
    for agent in everybody[1:]:
        await agent.start_and_wait()
    rollout_id = site.publish("r1")
    with closing(Audit(site)) as audit, anyio.fail_after(PATIENCE_SECONDS):
        await until(audit, lambda state: rollout_id in state.view.rollouts)
        for child in everybody:
            await child.kill()
        await site.control_plane.start_and_wait()
        for agent in everybody[1:]:
            await agent.start_and_wait()
        await terminal(audit, rollout_id)
        audit.require_hosts()
    for child in everybody:
        assert await child.stop() == 0


async def _running_site(new_site: NewSite, *, soak_minutes: int, **options: object) -> Site:
    site = new_site(
        HOSTNAMES,
        soak_minutes=soak_minutes,
        clock_arguments=clock_arguments(SPEED, datetime.now(UTC)),
        **options,
    )
    await site.install("r0")
    await site.control_plane.start_and_wait()
    return site


def _soaks(state: State, rollout_id: RolloutId, hostname: str) -> bool:
    record = state.view.host(rollout_id, hostname)
    return record is not None and record.state is HostState.SOAKING
