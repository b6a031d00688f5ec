"""The clock of a host is wrong. The agent logs it, nothing is lost, and it goes on once its clock is right."""

from contextlib import closing
from datetime import datetime, timedelta

import anyio
import pytest

from nixfleet_runtime.kernel.clock import SystemClock
from tests.faults.agents import agents_of
from tests.faults.conftest import NewSite
from tests.faults.witness import Audit, Witness

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60.0


class WrongClock(SystemClock):
    """The machine's clock, and how wrong somebody set it."""

    def __init__(self) -> None:
        self.error = timedelta()

    def now(self) -> datetime:
        """Return what it shows."""
        return super().now() + self.error


# Facts dated ahead wait until they are no more than a minute ahead, so little more than that is tried.
@pytest.mark.parametrize("seconds", [-600, 80])
async def test_a_host_whose_clock_is_off_is_refused_until_it_is_right(
    seconds: int, new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Its facts wait in its journal meanwhile, and the log of the agent says by how much the clock is off."""
    site = new_site(("web-01",), soak_minutes=170)
    await site.install("r0")
    await site.control_plane.start_and_wait()
    site.publish("r1")
    witness, clock = Witness(), WrongClock()
    with closing(Audit(site)) as audit, anyio.fail_after(PATIENCE_SECONDS):
        async with agents_of(site, witness, clock=clock):
            await witness.more_acknowledged(10)
            clock.error = timedelta(seconds=seconds)
            await witness.more_posts(1)
            acknowledged = len(witness.acknowledged)
            await witness.more_posts(2)
            assert len(witness.acknowledged) == acknowledged

            clock.error = timedelta()
            await witness.more_acknowledged(10)
        assert await site.control_plane.stop() == 0
        audit.read_on()
        audit.require(witness)
        audit.require_hosts()
    assert any("clock" in text for text in caplog.messages), caplog.messages
