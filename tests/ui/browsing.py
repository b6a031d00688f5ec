"""A real browser for the tests: the Chromium of the machine, driven by Playwright. Its console is heard."""

import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, Final, Literal

import anyio
from attrs import Factory, define
from playwright.async_api import Browser, ConsoleMessage, Page, TimeoutError, async_playwright  # noqa: A004

from nixfleet_ui.serving import Served

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING: Final = "needs Chromium: apt-get install chromium"
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MILLIS: Final = 40_000
AXE: Final = files("axe_playwright_python").joinpath("axe.min.js").read_text()

FORECASTS: Final = ("/v1/forecast", "/v1/preview")

Scheme = Literal["light", "dark"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield the browser, with a profile of its own that goes with it."""
    assert CHROMIUM is not None, MISSING
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        try:
            yield browser
        finally:
            await browser.close()


@define
class Tab:
    """A tab with the page in it. said: what its console said, and errors that nothing caught: a failure of the test."""

    page: Page
    said: list[str] = Factory(list)

    def hear(self, message: ConsoleMessage) -> None:
        """Note what the console said. A control plane without forecasts refuses them, and a browser notes that."""
        url = message.location.get("url", "")
        if not (url.endswith(FORECASTS) and message.text.startswith("Failed to load resource")):
            self.said.append(f"{message.type}: {message.text} {url}")

    async def go(self, screen: str) -> None:
        """Show another screen, as a click on a link does."""
        await self.page.evaluate("(screen) => { location.hash = `#/${screen}`; }", screen)
        await self.page.wait_for_selector(f"main[data-screen={screen.partition('/')[0]}]")

    async def text(self, selector: str = "main") -> str:
        """What is to be read there."""
        return await self.page.inner_text(selector)

    async def has(self, text: str, selector: str = "main") -> None:
        """Wait until a text is to be read there. Raises: TimeoutError of Playwright."""
        await self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.innerText.includes(text)",
            arg=[selector, text],
        )

    async def violations(self) -> list[str]:
        """What axe finds wrong with the page as it is."""
        await self.page.evaluate(AXE)
        found: Any = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{it['id']}: {it['help']}: {[node['html'][:160] for node in it['nodes'][:3]]}"
            for it in found["violations"]
        ]


@asynccontextmanager
async def opened(
    browser: Browser,
    served: Served,
    *,
    scheme: Scheme = "light",
    width: int = 1440,
    height: int = 900,
) -> AsyncIterator[Tab]:
    """Open the page in a tab; at the end, its console must have said nothing."""
    context = await browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT_MILLIS)
    try:
        tab = await _tab(await context.new_page(), served.url)
        yield tab
        assert tab.said == []
    finally:
        await context.close()


async def _tab(page: Page, url: str) -> Tab:
    tab = Tab(page)
    page.on("console", lambda message: tab.hear(message))
    page.on("pageerror", lambda error: tab.said.append(f"error: {error}"))
    await page.goto(url)
    try:
        await page.wait_for_selector("main[data-ready]")
    except TimeoutError as error:
        shown = await page.inner_text("body")
        raise AssertionError(f"the page shows {shown!r}, its console {tab.said}") from error
    return tab


async def others(tab: Tab, url: str, count: int) -> tuple[Tab, ...]:
    """Open further tabs of the same browser profile, all at once: a browser starts a process for each."""
    found = list[Tab]()

    async def open_one() -> None:
        found.append(await _tab(await tab.page.context.new_page(), url))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(open_one)
    return tuple(found)


async def all_have(tabs: Iterable[Tab], text: str, selector: str) -> None:
    """Wait until a text is to be read in each of `tabs`. Raises: TimeoutError of Playwright, in a group."""
    async with anyio.create_task_group() as tasks:
        for tab in tabs:
            tasks.start_soon(tab.has, text, selector)
