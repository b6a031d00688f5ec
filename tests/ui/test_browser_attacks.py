"""What other pages in the operator's browser can do to the local page: nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from playwright.async_api import Browser
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from nixfleet_control_plane.http.server.limits import Limits
from tests.support.served_control_plane import served
from tests.ui.living_fleet import LivingFleet
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio

ATTACK = """<!doctype html><title>attacker</title>
<iframe id="frame" src="{origin}/"></iframe>
<iframe name="sink"></iframe>
<form id="form" method="post" action="{origin}/v1/channels/stable/pause" target="sink" enctype="text/plain">
<input name='{{"reason":"' value='pwned"}}'></form>
<script src="{origin}/main.js"></script>
<script>
window.results = [];
async function attempt(name, path, options) {{
  try {{
    const answer = await fetch("{origin}" + path, options);
    results.push(name + ": " + answer.type + " " + answer.status);
  }} catch (error) {{ results.push(name + ": refused"); }}
}}
(async () => {{
  const body = '{{"reason":"pwned"}}';
  const headers = {{"Content-Type": "application/json", "X-Nixfleet-Ui-Token": "{token}"}};
  await attempt("read", "/v1/hosts", {{}});
  await attempt("simple", "/v1/channels/stable/pause", {{method: "POST", mode: "no-cors", body}});
  await attempt("json", "/v1/channels/stable/pause", {{method: "POST", headers, body}});
  document.getElementById("form").submit();
  window.isDone = true;
}})();
</script>
"""


@asynccontextmanager
async def _attacker(origin: str, token: str) -> AsyncIterator[str]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await HTMLResponse(ATTACK.format(origin=origin, token=token))(scope, receive, send)

    async with served(app, Limits()) as port:
        yield f"http://127.0.0.1:{port}/"


async def test_another_page_reads_nothing_and_commands_nothing(
    browser: Browser, fleet: LivingFleet
) -> None:
    """Fetches, a form, a frame and a script of another origin, even one that has learned the secret."""
    async with page_for(fleet.site) as page:
        admission = page.served.admission
        async with _attacker(admission.origin, admission.token) as url:
            before = (await fleet.site.operate("GET", "/v1/log?after=0")).json()["head"]
            context = await browser.new_context()
            tab = await context.new_page()
            answers = list[tuple[str, int]]()
            tab.on("response", lambda it: answers.append((it.url, it.status)))
            await tab.goto(url)
            await tab.wait_for_function("window.isDone")
            with anyio.fail_after(10):
                while not any(it.endswith("/pause") and status == 403 for it, status in answers):
                    await tab.wait_for_event("response")

            results = await tab.evaluate("results")
            assert results[0] == "read: refused"
            assert results[2] == "json: refused"
            assert results[1] in ("simple: opaque 0", "simple: refused")
            ours = {status for it, status in answers if it.startswith(admission.origin)}
            assert ours <= {403, 405}, answers
            frame = await tab.evaluate("document.getElementById('frame').contentDocument === null")
            assert frame
            await context.close()
        assert (await fleet.site.operate("GET", "/v1/log?after=0")).json()["head"] == before
