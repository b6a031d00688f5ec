"""Measures the page in a real browser: how soon it is ready, and what it takes of a main thread while the log grows.

    python -m tools.ui.measure [HOSTS]

Control plane, page's process and hosts share one process beside the browser, so a busy machine makes it look worse.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import anyio
from playwright.async_api import Browser

from tests.ui.browsing import Tab, chromium, opened
from tests.ui.staged_fleet import StagedFleet, layout_of, page_of, staged

HOSTS: Final = 10_000
ROWS_PER_SECOND: Final = 500
SECONDS: Final = 20
_READY: Final = """
const seen = new MutationObserver(() => {
    const canvas = document.querySelector("fleet-map canvas");
    if (!canvas || !canvas.style.height || window.readyAt) return;
    requestAnimationFrame(() => { window.readyAt ??= performance.now(); });
});
seen.observe(document, {childList: true, subtree: true, attributes: true});
"""


async def measure(hosts: int) -> None:
    """Print the figures."""
    layout = layout_of(
        hosts // 200,
        hosts // 20,
        hosts // 3,
        hosts - hosts // 200 - hosts // 20 - hosts // 3,
        max_in_flight=hosts // 12,
    )
    with tempfile.TemporaryDirectory() as directory:
        async with (
            staged(Path(directory), layout) as fleet,
            chromium() as browser,
            page_of(fleet) as page,
        ):
            await fleet.play(31 * 60)
            for _ in range(3):
                await _ready(browser, page.url)
            async with opened(browser, page) as tab:
                await _busy(tab, fleet)


async def _ready(browser: Browser, url: str) -> None:
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    tab = await context.new_page()
    await tab.add_init_script(_READY)
    await tab.goto(url)
    await tab.wait_for_function("() => window.readyAt")
    print(f"ready after {await tab.evaluate('Math.round(window.readyAt)')} ms")
    await context.close()


async def _busy(tab: Tab, fleet: StagedFleet) -> None:
    session = await tab.page.context.new_cdp_session(tab.page)
    await session.send("Performance.enable")
    before, head, began = await _metrics(session), fleet.service.feed.head, anyio.current_time()
    while anyio.current_time() - began < SECONDS:
        await fleet.play(5)
        grown = fleet.service.feed.head - head
        await anyio.sleep(max(0.0, began + grown / ROWS_PER_SECOND - anyio.current_time()))
    after, seconds = await _metrics(session), anyio.current_time() - began
    rows = (fleet.service.feed.head - head) / seconds
    share = 100 * (after["TaskDuration"] - before["TaskDuration"]) / seconds
    script = 100 * (after["ScriptDuration"] - before["ScriptDuration"]) / seconds
    heap = after["JSHeapUsedSize"] / 1e6
    print(
        f"{rows:.0f} rows/s for {seconds:.0f} s: {share:.1f} % of the main thread, scripts {script:.1f} %"
    )
    print(f"{heap:.1f} MB of JavaScript's heap")


async def _metrics(session: Any) -> dict[str, float]:
    found = await session.send("Performance.getMetrics")
    return {it["name"]: it["value"] for it in found["metrics"]}


if __name__ == "__main__":
    anyio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else HOSTS)
