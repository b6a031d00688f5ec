"""Every screen can be read by assistive programs and used by the keys alone, in light and in dark."""

import pytest
from playwright.async_api import Browser

from tests.ui.browsing import Scheme, opened
from tests.ui.living_fleet import LivingFleet
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_axe_finds_nothing_on_any_screen(
    browser: Browser, halted: LivingFleet, scheme: Scheme
) -> None:
    """Contrast, names, roles, order: of a halted fleet, as a map and as a table, with a dialog, and narrow."""
    failed = halted.layout.waves[1][1]
    async with page_for(halted.site) as page, opened(browser, page.served, scheme=scheme) as tab:
        found = {"now": await tab.violations()}
        await tab.page.click("text=as a table")
        found["now, as a table"] = await tab.violations()
        for screen in ("decide", f"host/{failed}", "next", "story", "releases"):
            await tab.go(screen)
            found[screen] = await tab.violations()
        await tab.page.set_viewport_size({"width": 700, "height": 900})
        await tab.go("decide")
        await tab.page.click("text=Clear…")
        found["a dialog, narrow"] = await tab.violations()
        assert {screen: it for screen, it in found.items() if it} == {}


async def test_the_keys_do_all_that_the_pointer_does(browser: Browser, halted: LivingFleet) -> None:
    """`/` finds a host, F goes to a failure, arrows move, Enter opens, Escape goes back, digits change the screen."""
    failed = halted.layout.waves[1][1]
    in_order = sorted(halted.layout.waves[1])
    before = in_order[in_order.index(failed) - 1]
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        press = tab.page.keyboard.press
        await tab.page.wait_for_selector("fleet-map canvas")
        await press("f")
        await tab.has(failed, "#map-status")
        await tab.has("Failed", "#map-status")
        await press("ArrowLeft")
        await tab.has(before, "#map-status")
        await press("Enter")
        await tab.page.wait_for_selector("main[data-screen=host]")
        assert before in await tab.text()
        await press("Escape")
        await tab.page.wait_for_selector("main[data-screen=now]")

        await press("/")
        await tab.page.keyboard.type("00069")
        await tab.has("00069", "#search-found")
        await press("Enter")
        await tab.page.wait_for_selector("main[data-screen=host]")
        assert "00069" in await tab.text()
        await press("2")
        await tab.page.wait_for_selector("main[data-screen=decide]")

        await tab.page.focus("main .answers button")
        await press("Enter")
        await tab.page.wait_for_selector("dialog[open]")
        assert await tab.page.evaluate("document.activeElement.name") == "reason"
        await press("Escape")
        await tab.page.wait_for_selector("dialog:not([open])", state="attached")


async def test_a_halt_is_announced(browser: Browser, fleet: LivingFleet) -> None:
    """A screen reader is told when the rollout goes otherwise than before, and not of every number."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        before = await tab.page.inner_text("#said")
        await fleet.converge(fleet.layout.waves[0][0])
        await tab.has("1 of 70 hosts", ".headline h1")
        assert await tab.page.inner_text("#said") == before
        await fleet.fail(fleet.layout.waves[0][1])
        await tab.has("is halted", "#said")
