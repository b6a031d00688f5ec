"""A control plane that starts while its clock is wrong: nobody is shut out once the clock is right."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from attrs import frozen

from nixfleet_agent.network.http_transport import HttpTransport, connected
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.earlier_commands import earlier_commands
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.signing.nonces import EarlierRequests
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_runtime.transport import TransportFailed
from nixfleet_testing.contracts.histories import HOST, T0
from nixfleet_testing.contracts.served_fleet import served_fleet
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START
from tests.support.served_control_plane import served

KEY = SigningKey.generate()
RING = KeyRing(enrolled=FrozenMap({HOST: EnrolledHost(HOST, KEY.public_key, T0)}))
HOUR, MARGIN = timedelta(hours=1), timedelta(seconds=61)


@frozen
class Fleet:
    """A host with a right clock, and a control plane whose clock is `ahead`, as it was at its start."""

    url: str
    ahead: FakeClock
    host: HttpTransport

    async def readiness(self) -> str:
        async with httpx2.AsyncClient(base_url=self.url, trust_env=False) as client:
            return (await client.get("/readyz")).text


@asynccontextmanager
async def started_ahead(directory: Path, ahead: timedelta) -> AsyncIterator[Fleet]:
    async with served_fleet(directory) as served_by:
        clock = FakeClock(T0 + ahead)
        app = make_app(served_by.service, lambda: RING, SqliteQueries(directory / "none"), clock)
        async with (
            served(app, Limits()) as port,
            connected(f"http://127.0.0.1:{port}", HOST, KEY, FakeClock(T0)) as host,
        ):
            yield Fleet(f"http://127.0.0.1:{port}", clock, host)


@pytest.mark.anyio
async def test_hosts_are_heard_as_soon_as_the_clock_is_right(tmp_path: Path) -> None:
    """While the clock is ahead they are refused, and /readyz says why; after that nothing is left of it."""
    async with started_ahead(tmp_path, HOUR) as fleet:
        for _ in range(3):
            with pytest.raises(TransportFailed, match="differs too much"):
                await fleet.host.next_dispatch(0)
        assert "found this clock 3600 s ahead of the last sender's" in await fleet.readiness()

        fleet.ahead.advance(-HOUR.total_seconds())

        await fleet.host.next_dispatch(0)
        assert await fleet.readiness() == "ready"


@pytest.fixture
def commanded(control_plane: ScriptedControlPlane) -> ScriptedControlPlane:
    """A control plane that carried a command out at START, and was busy for an hour since."""
    control_plane.publish("r1")
    control_plane.pause("stable")
    control_plane.wait(minutes=60)
    control_plane.publish("r2")
    return control_plane


@pytest.mark.anyio
@pytest.mark.parametrize("now", [START + HOUR, START + 9_000 * HOUR, START - HOUR])
async def test_commands_are_accepted_that_are_later_than_the_last_one(
    commanded: ScriptedControlPlane, now: datetime
) -> None:
    """Whatever the clock shows at the start, the log decides from when on commands are accepted."""
    found = await earlier_commands(SqliteQueries(commanded.database), now)

    if now < START:
        assert found == EarlierRequests(None, (START,))
    else:
        assert found == EarlierRequests(START + MARGIN)


@pytest.mark.anyio
async def test_commands_of_a_time_that_is_yet_to_come_are_remembered_by_themselves(
    commanded: ScriptedControlPlane,
) -> None:
    """A command while the clock was ahead does not shut operators out until that time has come."""
    commanded.wait(minutes=10_000)
    commanded.resume("stable")
    ahead = commanded.now

    assert await earlier_commands(
        SqliteQueries(commanded.database), START + HOUR
    ) == EarlierRequests(START + MARGIN, (ahead,))


@pytest.mark.anyio
async def test_without_any_command_none_is_refused(control_plane: ScriptedControlPlane) -> None:
    """No command can have been carried out before."""
    control_plane.publish("r1")

    assert await earlier_commands(SqliteQueries(control_plane.database), START) == EarlierRequests()
