"""The screen Now in a real browser, in front of a real control plane."""

import pytest
from playwright.async_api import Browser

from tests.engines.releases import Layout
from tests.support.served_control_plane import READER_KEY, Site
from tests.ui.browsing import all_have, opened, others
from tests.ui.living_fleet import TARGET, LivingFleet, fleet_on, waves_of
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio


async def test_the_page_follows_the_fleet(browser: Browser, fleet: LivingFleet) -> None:
    """The sentence, the counts and the story are the control plane's, and change as hosts report."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        headline = (await tab.text(".headline h1")).strip()
        assert "0 of 70 hosts have converged" in headline

        for hostname in fleet.layout.waves[0]:
            await fleet.converge(hostname)

        await tab.has("2 of 70 hosts have converged", ".headline h1")
        await tab.has("Converged 2", ".legend")
        await tab.has("has converged on k2f7nq0v-nixos-system-26.05", ".story")
        assert "live" in await tab.text(".link")


async def test_a_halt_is_seen_and_says_what_answers_it(
    browser: Browser, halted: LivingFleet
) -> None:
    """The sentence, what needs a person, and the failure in the map's legend; the host's words are text."""
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        assert "is halted" in await tab.text(".headline h1")
        needs = await tab.text("[data-kind=urgent]")
        assert "halted" in needs
        assert "Clear…" in needs
        assert "Failed 1" in (await tab.text(".legend")).replace("\n", " ")
        story = await tab.text(".story")
        assert "<img src=x onerror=alert(1)>" in story
        assert r"\x1b[31munit\x07" in story
        assert r"\u202egpj.exe" in story
        assert await tab.page.query_selector("main img") is None


async def test_a_small_fleet_is_a_table(browser: Browser, site: Site) -> None:
    """Below sixty hosts names and states say more than a map, which is a button away."""
    await fleet_on(site, Layout(waves_of(1, 4), closure=TARGET))
    async with page_for(site) as page, opened(browser, page.served) as tab:
        table = await tab.text("table.hosts")
        assert "web-00000" in table
        assert "Pending" in table
        await tab.page.click("text=as a map")
        await tab.page.wait_for_selector("fleet-map canvas")


async def test_a_reader_is_offered_no_command(browser: Browser, halted: LivingFleet) -> None:
    """Nor is a page that only shows: what needs a person is told all the same."""
    async with (
        page_for(halted.site, name="bob", key=READER_KEY) as page,
        opened(browser, page.served) as tab,
    ):
        await tab.has("is halted", "[data-kind=urgent]")
        assert await tab.page.query_selector("main .buttons button") is None
        assert "may read" in await tab.text(".who")
    async with page_for(halted.site, read_only=True) as page, opened(browser, page.served) as tab:
        assert await tab.page.query_selector("main .buttons button") is None
        assert "only shows" in await tab.text(".who")


async def test_eight_tabs_share_one_stream(browser: Browser, fleet: LivingFleet) -> None:
    """One leads, and hands on what it gets: each tab is current, and when the leader goes another leads."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as first:
        # A tab from a link has no secret of its own: the others give it theirs.
        tabs = await others(first, page.served.admission.origin, 7)
        await fleet.converge(fleet.layout.waves[0][0])
        await all_have((first, *tabs), "1 of 70 hosts", ".headline h1")

        await first.page.close()
        await fleet.converge(fleet.layout.waves[0][1])
        await all_have(tabs, "2 of 70 hosts have converged", ".headline h1")
        assert [tab.said for tab in tabs] == [[]] * 7


async def test_a_tab_without_the_secret_shows_nothing(browser: Browser, fleet: LivingFleet) -> None:
    """It says which file to open."""
    async with page_for(fleet.site) as page:
        context = await browser.new_context()
        tab = await context.new_page()
        await tab.goto(page.served.admission.origin)
        await tab.wait_for_selector("text=This tab cannot show the fleet")
        assert "70" not in await tab.inner_text("body")
        await context.close()


async def test_the_secret_leaves_the_address_bar(browser: Browser, fleet: LivingFleet) -> None:
    """A picture of the window does not give it away, and the tab can be loaded again."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        assert page.served.admission.token not in tab.page.url
        await tab.page.reload()
        await tab.page.wait_for_selector("main .headline")
