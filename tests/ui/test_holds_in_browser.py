"""What holds hosts, on the page, in front of a real control plane."""

import json
from datetime import timedelta

import pytest
from playwright.async_api import Browser

from nixfleet_proto.codec import format_time
from nixfleet_proto.policy import Selector
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, READER_KEY, Site
from tests.ui.browsing import opened
from tests.ui.living_fleet import HOSTILE, TARGET, fleet_on, waves_of
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio


async def _frozen(site: Site) -> None:
    """Two hosts on a frozen channel, held by alice besides, in words that want to be markup."""
    now = CLOCK.now()
    freeze = CalendarEntry(
        "year-end",
        CalendarKind.DENY,
        Selector(all=True),
        "UTC",
        reason="<b>the books</b> are closed",
        begins=f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}",
        ends=f"{now + timedelta(days=3):%Y-%m-%dT%H:%M}",
    )
    await fleet_on(site, Layout(waves_of(1, 2), closure=TARGET, calendar=(freeze,)))
    until = format_time(now.replace(microsecond=0) + timedelta(hours=4))
    body = json.dumps({"scope": "stable", "reason": HOSTILE, "until": until}).encode()
    assert (await site.operate("POST", "/v1/holds", body)).status_code == 204


async def test_holds_and_freezes_are_shown_with_who_why_and_until_when(
    browser: Browser, site: Site
) -> None:
    """The hold of an operator and the freeze of the calendar, on Now; what they say is text."""
    await _frozen(site)
    async with page_for(site) as page, opened(browser, page.served) as tab:
        await tab.has("year-end", ".holds")
        text = await tab.text(".holds")
        assert "<b>the books</b> are closed" in text
        assert r"\x1b[31munit\x07" in text
        assert "by alice" in text
        assert text.count("until ") >= 2
        assert await tab.page.query_selector(".holds b, .holds img") is None


async def test_a_hold_is_released_where_the_operator_may(browser: Browser, site: Site) -> None:
    """The command names whose hold ends; a freeze is offered none, but says what ends it."""
    await _frozen(site)
    async with page_for(site) as page, opened(browser, page.served) as tab:
        await tab.go("decide")
        await tab.has("The calendar ends it", ".holds")
        assert await tab.page.locator(".holds button:has-text('…')").count() == 1
        await tab.page.click(".holds >> text=Release the hold…")
        await tab.page.click("dialog summary")
        assert '"holder": "alice"' in await tab.text("dialog .bytes")
        await tab.page.fill("dialog textarea[name=reason]", "the database has moved")
        await tab.page.click("dialog button[type=submit]")
        await tab.page.wait_for_selector(".holds [data-source=operator]", state="detached")
        assert "year-end" in await tab.text(".holds")
        assert await tab.violations() == []


async def test_a_reader_sees_holds_and_lifts_none(browser: Browser, site: Site) -> None:
    """What holds is no secret; who may lift it is the control plane's decision."""
    await _frozen(site)
    async with (
        page_for(site, name="bob", key=READER_KEY) as page,
        opened(browser, page.served) as tab,
    ):
        await tab.go("decide")
        await tab.has("by alice", ".holds")
        assert await tab.page.query_selector(".holds button.plain") is None
