"""Fixtures for the local page: a browser for the tests of a module, which are skipped where the machine has none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.engines.releases import Layout
from tests.support.served_control_plane import Site, site_with
from tests.ui.browsing import CHROMIUM, MISSING, chromium
from tests.ui.living_fleet import HOSTILE, TARGET, LivingFleet, fleet_on, waves_of


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium. Of a module: tests that run a loop of their own need one that is not in use."""
    if CHROMIUM is None:
        pytest.skip(MISSING)
    async with chromium() as opened:
        yield opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane that is served."""
    async with site_with(tmp_path) as made:
        yield made


@pytest.fixture
async def fleet(site: Site) -> LivingFleet:
    """Seventy hosts in three waves, without a soak."""
    return await fleet_on(site, Layout(waves_of(2, 8, 60), soak_minutes=0, closure=TARGET))


@pytest.fixture
async def halted(fleet: LivingFleet) -> LivingFleet:
    """The same, halted: the canaries converged, and a host of the next wave failed with words of its own."""
    canaries, early, _ = fleet.layout.waves
    for hostname in canaries:
        await fleet.converge(hostname)
    await fleet.switch(early[0])
    await fleet.fail(early[1], HOSTILE)
    return fleet
