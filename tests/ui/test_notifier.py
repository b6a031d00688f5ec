"""A notifier on the operator's machine: what the page says of its hooks."""

import shlex
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.async_api import Browser

from nixfleet_cli.commands.steering.ui import notifier_of
from nixfleet_cli.main import main
from nixfleet_notify.delivery.engine import Save
from nixfleet_notify.delivery.state import DeadLetter, HookState
from nixfleet_notify.files.stored import NotifierFiles
from nixfleet_notify.messages.message import Message
from nixfleet_proto.signing import SigningKey
from tests.cli.test_notify import CONFIG
from tests.ui.browsing import opened
from tests.ui.living_fleet import HOSTILE, LivingFleet
from tests.ui.served_page import page_for

pytestmark = pytest.mark.anyio
AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A notifier whose pager gave up two messages, and whose chat was disabled; its receivers are hostile."""
    place = tmp_path / "notify here"
    place.mkdir()
    SigningKey.generate().save(place / "bob.key")
    secret = place / "pager.secret"
    secret.touch(mode=0o600)
    secret.write_text(f"whsec_{b64encode(b'k' * 32).decode()}")
    (place / "notify.toml").write_text(CONFIG.format(url="http://127.0.0.1:9"))
    files = NotifierFiles(place / "notifier")
    files.prepare()
    for number in (17, 18):
        message = Message(
            f"abc.pager.{number}", "org.nixfleet.rollout.halted", "{}", number, number
        )
        files.save("pager", Save(HookState(number), DeadLetter(message, 12, HOSTILE, AT)))
    files.save("chat", Save(HookState(3, disabled="it answered 410", problem_at=AT)))
    return place / "notify.toml"


def test_hooks_that_need_somebody_are_read_and_nothing_is_written(config: Path) -> None:
    """Dead letters are counted, with what the receiver said last; the command is whole, from any directory."""
    before = {it: it.read_bytes() for it in config.parent.rglob("*") if it.is_file()}
    standing = notifier_of(config)()
    pager, chat = standing.needs
    assert pager.text == (
        "Hook pager has 2 dead letters: messages that were given up after 12 attempts."
    )
    assert (pager.dead_letters, pager.problem, pager.since) == (2, HOSTILE, AT)
    assert shlex.split(pager.terminal)[4:] == [f"{config}", "--hook", "pager", "--all-dead"]
    assert chat.text == "Hook chat is disabled: it answered 410. Nothing is told by it."
    assert "--all-dead" not in chat.terminal
    assert {it: it.read_bytes() for it in config.parent.rglob("*") if it.is_file()} == before


def test_files_that_cannot_be_read_are_said(config: Path) -> None:
    """The page goes on, and says that it does not know."""
    (config.parent / "notifier" / "hooks" / "pager.json").write_text("no")
    standing = notifier_of(config)()
    assert standing.needs == ()
    assert standing.problem is not None
    assert "pager.json" in standing.problem


def test_a_configuration_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """Exit code 2, with every problem."""
    SigningKey.generate().save(tmp_path / "alice.key")
    (tmp_path / "notify.toml").write_text("[control_plane]\n")
    arguments = ["--url", "http://127.0.0.1:9", "--key", f"{tmp_path}/alice.key", "--no-browser"]
    result = CliRunner().invoke(
        main, ["ui", *arguments, "--notify-config", f"{tmp_path}/notify.toml"]
    )
    assert result.exit_code == 2
    assert "control_plane.url" in result.output


async def test_dead_letters_are_a_card_and_what_their_receiver_said_is_text(
    browser: Browser, fleet: LivingFleet, config: Path
) -> None:
    """On Decide with the command that answers them, and counted; the page offers no button for it."""
    async with (
        page_for(fleet.site, notifier=notifier_of(config)) as page,
        opened(browser, page.served) as tab,
    ):
        await tab.go("decide")
        await tab.has("2 dead letters", "[data-need=notifier]")
        text = await tab.text(".cards")
        assert "--all-dead" in text
        assert "<img src=x onerror=alert(1)>" in text
        assert r"\x1b[31munit\x07" in text
        assert "Hook chat is disabled" in text
        assert "2" in await tab.text("nav .count")
        assert await tab.page.query_selector("[data-need=notifier] button") is None
        assert await tab.violations() == []
        await tab.go("now")
        await tab.has("2 dead letters", "[data-kind=urgent]")


async def test_a_page_without_a_notifier_asks_once(browser: Browser, fleet: LivingFleet) -> None:
    """It says nothing of one."""
    async with page_for(fleet.site) as page:
        answer = await page.ask("GET", "/local/notifier")
        assert answer.json() == {"isRead": False, "needs": []}
