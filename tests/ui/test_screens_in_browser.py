"""Host, Story, Next, Releases and commands in a real browser, in front of a real control plane."""

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.async_api import Browser

from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_runtime.http.client import HttpSender, NoAnswer, signed_client
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.visible import visible
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, OPERATOR_KEY, Site
from tests.ui.browsing import opened
from tests.ui.living_fleet import TARGET, LivingFleet, fleet_on, waves_of
from tests.ui.served_page import page_before, page_for

pytestmark = pytest.mark.anyio


async def _commands(site: Site) -> list[str]:
    return [row for row in await _rows(site) if row.startswith("alice ")]


async def _rows(site: Site) -> list[str]:
    rows = (await site.operate("GET", "/v1/log?after=0&limit=500")).json()["events"]
    return [f"{row['actor']} {row['text']}" for row in rows]


async def test_a_host_is_shown_whole(browser: Browser, halted: LivingFleet) -> None:
    """Its sentence, why it failed with all that its switch wrote, its times, its rows with their signatures."""
    failed = halted.layout.waves[1][1]
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        await tab.go(f"host/{failed}")
        await tab.has("Why it failed")
        text = await tab.text()
        for part in ("exit code 1", "k2f7nq0v-nixos-system-26.05", "switch failed", "dispatched"):
            assert part in text
        output = await tab.text(".output")
        assert "<img src=x onerror=alert(1)>" in output
        assert r"\u202egpj.exe" in output
        # It rolls back still: a retry would be refused.
        assert "Excuse…" in text
        assert "Retry…" not in text


async def test_a_host_that_nobody_knows_is_said_to_be_unknown(
    browser: Browser, fleet: LivingFleet
) -> None:
    """With the name that was probably meant."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        await tab.go("host/web-0000")
        await tab.has("web-00000")
        # The browser notes the status of the answer.
        tab.said = [it for it in tab.said if "404" not in it]


async def test_a_pause_needs_a_reason_and_is_in_the_log(
    browser: Browser, fleet: LivingFleet
) -> None:
    """The dialog shows what is sent and which key signs; nothing is sent without a reason."""
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        await tab.page.click("text=Pause…")
        assert "alice" in await tab.text("dialog")
        await tab.page.click("dialog summary")
        assert "POST /v1/rollouts/stable@r1/pause" in await tab.text("dialog .bytes")
        await tab.page.fill("dialog textarea[name=reason]", "  ")
        await tab.page.click("dialog button[type=submit]")
        await tab.has("A reason is needed", "dialog .problem")
        assert await _commands(fleet.site) == []

        await tab.page.fill("dialog textarea[name=reason]", "the <b>database</b> is moved")
        await tab.page.click("dialog button[type=submit]")
        await tab.page.wait_for_selector("dialog:not([open])", state="attached")
        await tab.has("Resume…", ".headline")
        await tab.has("the <b>database</b> is moved", ".story")
        (command,) = await _commands(fleet.site)
        assert command.startswith("alice ")


async def test_what_is_refused_is_said_where_it_was_asked(
    browser: Browser, halted: LivingFleet
) -> None:
    """The dialog stays, with the control plane's words."""
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        await tab.page.click("text=Clear…")
        await tab.page.fill("#dialog-hosts", "web-99999")
        await tab.page.fill("dialog textarea[name=reason]", "it is broken")
        await tab.page.click("dialog button[type=submit]")
        await tab.has("web-99999", "dialog .problem")
        tab.said = [it for it in tab.said if "409" not in it and "422" not in it]


async def test_an_approval_is_shown_before_it_is_signed(browser: Browser, site: Site) -> None:
    """Byte for byte; it is taken, and the wave begins."""
    guards = (WaveGuards(), WaveGuards(approvals=Approvals(1, ("alice",))))
    layout = Layout(
        waves_of(1, 2), soak_minutes=0, closure=TARGET, guards=guards, policy=RolloutPolicy()
    )
    fleet = await fleet_on(site, layout)
    await fleet.converge(layout.waves[0][0])
    async with page_for(site) as page, opened(browser, page.served) as tab:
        await tab.go("decide")
        await tab.has("Approve…")
        await tab.page.click("text=Approve…")
        await tab.page.fill("dialog textarea[name=reason]", "the canary is well")
        await tab.page.click("dialog button[type=submit]")
        await tab.has('"operator":"alice"', "dialog .bytes")
        assert '"reason":"the canary is well"' in await tab.text("dialog .bytes")
        await tab.page.click("dialog button[type=submit]")
        await tab.page.wait_for_selector("dialog:not([open])", state="attached")
        await tab.page.wait_for_selector("[data-need=approval]", state="detached")
        assert any("the canary is well" in row and "alice" in row for row in await _rows(site))


async def test_the_story_is_filtered_and_a_row_opens(browser: Browser, halted: LivingFleet) -> None:
    """By host and by kind; an open row has its payload."""
    failed = halted.layout.waves[1][1]
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        await tab.go(f"story/{'host%3D' + failed}")
        await tab.has("failed to switch")
        assert halted.layout.waves[0][0] not in await tab.text("table")
        await tab.page.click("tr:has-text('failed to switch') button.open")
        await tab.has("ActivationFailed", ".detail")
        await tab.page.select_option("main select", "operator_command")
        await tab.has("No row from")


async def test_releases_and_what_comes_next_are_shown(
    browser: Browser, halted: LivingFleet
) -> None:
    """What is in force and until when, by whom nothing moves, and when hosts refuse it."""
    async with page_for(halted.site) as page, opened(browser, page.served) as tab:
        await tab.go("releases")
        await tab.has("in force")
        assert "halted" in await tab.text("table")
        await tab.go("next")
        await tab.has("hosts refuse stable@r1")


class _Switched:
    """A control plane that can be cut off, and slowed down."""

    def __init__(self, client: HttpSender) -> None:
        self._client = client
        self.is_away = False

    async def send(
        self, method: str, path: str, body: bytes = b"", *, answer_seconds_max: float
    ) -> httpx2.Response:
        if self.is_away:
            raise NoAnswer(f"{method} {path}", "ConnectError", "connection refused")
        return await self._client.send(method, path, body, answer_seconds_max=answer_seconds_max)


async def test_a_control_plane_that_goes_away_is_said_and_comes_back(
    browser: Browser, fleet: LivingFleet
) -> None:
    """What was known stays on the page, with since when it is not live; then it goes on by itself."""
    async with signed_client(
        fleet.site.url, operator_key_id("alice"), OPERATOR_KEY, CLOCK
    ) as client:
        upstream = _Switched(client)
        async with page_before(upstream) as page, opened(browser, page.served) as tab:
            upstream.is_away = True
            await fleet.converge(fleet.layout.waves[0][0])
            await tab.has("not live", ".link")
            await tab.has("connection refused", ".link")
            assert "of 70 hosts" in await tab.text(".headline h1")
            upstream.is_away = False
            await tab.has("live · row", ".link")
            await tab.has("1 of 70 hosts", ".headline h1")
            tab.said = [it for it in tab.said if "502" not in it]


async def test_any_text_of_a_host_is_shown_as_text(browser: Browser, fleet: LivingFleet) -> None:
    """Whatever a host says: no element comes of it, no character of it is hidden, and the page and the terminal agree.

    Characters that Python's Unicode does not know yet are left out: the browser's may.
    """
    texts: list[str] = []

    @settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.text(st.characters(exclude_categories=("Cs", "Cn")), min_size=1, max_size=60))
    def draw(text: str) -> None:
        texts.append(text)

    await anyio.to_thread.run_sync(draw)
    texts += [
        "<script>alert(1)</script>",
        "${alert(1)}",
        "</bdi></main>",
        "\u202ex\u2066\u200b\x00\x9b31m",
    ]
    async with page_for(fleet.site) as page, opened(browser, page.served) as tab:
        shown = await tab.page.evaluate(
            """async (texts) => {
                const {html, render} = await import("/vendor/lit-html-3.3.3.js");
                const {said} = await import("/parts/text.js");
                const place = document.createElement("div");
                document.body.append(place);
                const found = texts.map((text) => {
                    render(html`<p>${said(text)}</p>`, place);
                    const bdi = place.querySelector("bdi");
                    return [bdi.textContent, bdi.childElementCount, place.querySelectorAll("*").length];
                });
                place.remove();
                return found;
            }""",
            texts,
        )
    assert shown == [[visible(text), 0, 2] for text in texts]
