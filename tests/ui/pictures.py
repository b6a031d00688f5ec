"""Takes the pictures of the documentation anew, of a staged fleet in a real browser.

python -m tests.ui.pictures
"""

import tempfile
from pathlib import Path
from typing import Final

import anyio
from playwright.async_api import Browser

from tests.ui.browsing import Scheme, Tab, chromium, opened
from tests.ui.staged_fleet import StagedFleet, layout_of, page_of, staged

PLACE: Final = Path("docs/pictures")
BYTES_MAX: Final = 200_000


async def take_all(place: Path) -> None:
    """Write each picture into `place`, a directory."""
    async with chromium() as browser:
        await _going_well(browser, place)
        await _halted(browser, place)


async def _going_well(browser: Browser, place: Path) -> None:
    layout = layout_of(50, 450, 2833, 6667, max_in_flight=833)
    with tempfile.TemporaryDirectory() as directory:
        async with staged(Path(directory), layout) as fleet:
            await fleet.play(31 * 60)
            await _picture(browser, fleet, "now", "light", place / "ui-now.png")
            await _picture(browser, fleet, "story", "light", place / "ui-story.png")


async def _halted(browser: Browser, place: Path) -> None:
    layout = layout_of(3, 27, 120, 150)
    broken = layout.waves[2][17]
    with tempfile.TemporaryDirectory() as directory:
        async with staged(Path(directory), layout, {broken}) as fleet:
            await fleet.play(17 * 60)
            await _picture(browser, fleet, "now", "dark", place / "ui-halted-dark.png", "f")
            await _picture(browser, fleet, "decide", "light", place / "ui-decide.png")
            await _picture(browser, fleet, f"host/{broken}", "dark", place / "ui-host-dark.png")


async def _picture(
    browser: Browser, fleet: StagedFleet, screen: str, scheme: Scheme, file: Path, *keys: str
) -> None:
    async with page_of(fleet) as page, opened(browser, page, scheme=scheme) as tab:
        await tab.go(screen)
        for key in keys:
            await tab.page.keyboard.press(key)
        await _drawn(tab)
        size = len(await tab.page.screenshot(path=file))
    assert size <= BYTES_MAX, f"{file}: expected at most {BYTES_MAX} bytes, found {size}"


async def _drawn(tab: Tab) -> None:
    """Return once nothing is being asked for any more, and all is drawn."""
    await tab.page.wait_for_function(
        "() => !/Asking the control plane|Running the fleet/.test(document.body.innerText)"
    )
    # What is drawn comes with the frame after the next one: the first may have been under way.
    await tab.page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


if __name__ == "__main__":
    anyio.run(take_all, PLACE)
