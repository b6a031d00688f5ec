"""The fleet of the past, the chain, what a release changed and its back-test: in a browser, by a real process."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve
from playwright.async_api import Browser

from nixfleet_control_plane.forecaster import ForecastProcess, forecast_command
from nixfleet_control_plane.history.proofs import row_hashes
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, Site, site_with
from tests.ui.browsing import Tab, opened
from tests.ui.living_fleet import HOSTILE, TARGET, LivingFleet, fleet_on, waves_of
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a process that forecasts, and reads the log."""
    command = forecast_command(tmp_path / "control-plane.sqlite")
    async with (
        ForecastProcess(command, lambda: 0, CLOCK.now) as forecaster,
        site_with(tmp_path, forecaster=forecaster) as made,
    ):
        yield made


@pytest.fixture
async def fleet(site: Site) -> LivingFleet:
    """Seventy hosts of which a release converged two, and the next, in one wave, failed on one."""
    layout = Layout(waves_of(2, 68), soak_minutes=0, closure=TARGET)
    first = await fleet_on(site, layout)
    for hostname in layout.waves[0]:
        await first.converge(hostname)
    next_layout = evolve(layout, waves=(layout.hosts,), closure="zz" + TARGET)
    second = await fleet_on(site, next_layout, "r2")
    await second.fail(layout.waves[0][0], HOSTILE)
    return second


@asynccontextmanager
async def _page(browser: Browser, site: Site) -> AsyncIterator[Tab]:
    async with page_for(site) as page, opened(browser, page.served) as tab:
        yield tab


async def _row_of_first_convergence(site: Site) -> int:
    rows = (await site.operate("GET", "/v1/log?after=0&limit=500")).json()["events"]
    return int(next(row["seq"] for row in rows if "has converged" in row["text"]))


async def test_the_fleet_is_shown_as_of_a_row_and_commands_are_off(
    browser: Browser, site: Site, fleet: LivingFleet
) -> None:
    """Now and Host are those of then, marked as the past; a step goes on, and a button leads back."""
    row = await _row_of_first_convergence(site)
    async with _page(browser, site) as tab:
        assert "halted" in await tab.text(".headline h1")
        await tab.go("story")
        await tab.page.uncheck("text=roll up by minute")
        await tab.page.click(f"button.open:text-is('{row}')")
        await tab.page.click("text=The fleet as of this row")
        await tab.has(f"The past: the fleet as of row {row}", ".past")
        await tab.has("1 of 70 hosts", ".headline h1")
        assert "stable@r1" in await tab.text(".headline h1")
        assert await tab.page.query_selector("main .buttons button") is None
        assert await tab.violations() == []

        await tab.go(f"host/{fleet.layout.hosts[0]}")
        await tab.has("Converged")
        assert "stable@r2" not in await tab.text()
        await tab.go("decide")
        assert await tab.page.query_selector("main button.plain") is None

        await tab.go("now")
        await tab.page.focus(".past input")
        await tab.page.keyboard.press("End")
        await tab.has("halted", ".headline h1")
        assert await tab.page.query_selector("main .buttons button") is None
        await tab.page.click("text=Back to now")
        await tab.page.wait_for_selector(".past", state="detached")
        await tab.has("Clear…")


async def test_what_happens_meanwhile_does_not_change_the_past(
    browser: Browser, site: Site, fleet: LivingFleet
) -> None:
    """The tab goes on following the log: the head is live, and what is shown is not."""
    row = await _row_of_first_convergence(site)
    async with _page(browser, site) as tab:
        await tab.go("story")
        await tab.page.uncheck("text=roll up by minute")
        await tab.page.click(f"button.open:text-is('{row}')")
        await tab.page.click("text=The fleet as of this row")
        await tab.has("1 of 70 hosts", ".headline h1")
        head = int((await site.operate("GET", "/v1/log?after=0&limit=1")).json()["head"])
        await site.operate("POST", "/v1/channels/stable/pause", b'{"reason":"a look"}')
        await tab.has(f"row {head + 1}", ".link")
        assert "1 of 70 hosts" in await tab.text(".headline h1")


async def test_the_chain_is_verified_and_each_row_has_its_hash(
    browser: Browser, site: Site, fleet: LivingFleet
) -> None:
    """Shortened in the list, whole in the detail, copied by a click; rows that came later have no mark."""
    async with page_for(site) as page, opened(browser, page.served) as tab:
        await tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await tab.go("story")
        await tab.page.uncheck("text=roll up by minute")
        with open_for_reading(site.database) as connection:
            hashes = [it.hex() for it in row_hashes(read_log(connection))]
        await tab.page.click(".more button:has-text('Rows before')")
        await tab.has("This is where the log begins")
        assert await tab.page.text_content("tbody tr:last-child button.open") == "1"
        await tab.page.click("text=Verify the chain")
        await tab.has("The chain is intact up to row", "p.verified")
        await tab.page.click("tbody tr:last-child .hash button")
        await tab.has(f"copied {hashes[0]}", "#said")
        assert await tab.page.evaluate("navigator.clipboard.readText()") == hashes[0]
        await tab.page.click("tbody tr:last-child .seq button")
        assert await tab.text(".whole-hash") == hashes[0]
        assert await tab.violations() == []

        await site.operate("POST", "/v1/channels/stable/pause", b'{"reason":"a look"}')
        await tab.has("a look", "table")
        assert await tab.page.query_selector("tbody tr:has-text('a look') .verified") is None


async def test_a_release_says_what_it_changed_and_is_back_tested(
    browser: Browser, site: Site, fleet: LivingFleet
) -> None:
    """The comparison, whom it touches by wave, what it may cost; the back-test is started by a click."""
    async with _page(browser, site) as tab:
        await tab.go("releases")
        await tab.page.click("tr:has-text('r2') >> text=changes")
        await tab.has("70 of 70 hosts get another closure than from stable@r1")
        text = await tab.text(".release-detail")
        assert "stable@r2 succeeds stable@r1" in text
        assert re.search(r"at worst \d+ of 70 hosts", text)
        await tab.page.click("text=Back-test it")
        await tab.has("recorded", ".release-detail")
        await tab.has("Taken to succeed", ".release-detail")
        assert await tab.violations() == []
