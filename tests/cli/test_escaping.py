"""Hostile text through the real commands: no command prints it raw, and none stumbles over it."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_cli.shared.logging_setup import MESSAGE_LENGTH_MAX, JsonLines
from nixfleet_control_plane.messages.inputs import PauseScope
from nixfleet_proto.agent_event import ActivationFailed, ActivationStarted, DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from tests.cli.conftest import Invoke
from tests.engines.small_fleet import SmallFleet

FORGED = "x\n  999  2026-05-16 01:00:00Z  stable@r2  ada      pauses stable: forged"
HOSTILE = f"\x1b[2J\x00\x9b31m\u202e[/bold]x{FORGED}\x7f"
R3 = RolloutId("stable@r3")


def require_harmless(result: Result) -> None:
    """Every line can be printed, none was forged, and no exception is hidden."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    for line in (result.stdout + result.stderr).split("\n"):
        assert line.isprintable(), line
        assert not line.startswith("  999"), line


@pytest.fixture
def attacked(fleet: SmallFleet) -> SmallFleet:
    """A fleet in whose log a host and an operator put what they could."""
    fleet.publish("r3")
    record = fleet.mirrored(R3, "web-01")
    now, seq = fleet.now, record.last_event_seq
    fleet.hear("web-01", R3, DispatchAck(f"{HOSTILE}-a", now, seq + 1))
    fleet.hear("web-01", R3, ActivationStarted(now, HOSTILE, seq + 2))
    fleet.hear("web-01", R3, ActivationFailed(1, HOSTILE, now, seq + 3))
    fleet.hear("web-01", R3, ActivationStarted(now, HOSTILE, seq + 9))
    fleet.command(PauseScope(ChannelScope("stable"), "ada", HOSTILE))
    return fleet


@pytest.mark.parametrize(
    "arguments", [("log", "show"), ("log", "show", "--json"), ("status",), ("status", "--json")]
)
def test_what_a_host_said_is_shown_escaped_and_forges_no_row(
    arguments: tuple[str, ...], nixfleet: Invoke, attacked: SmallFleet
) -> None:
    """Escape sequences, NUL, C1, bidi marks, markup and line ends are spelt out, in text and in JSON."""
    shown = nixfleet(*arguments, attacked.database)
    assert shown.exit_code == 0, shown.output
    require_harmless(shown)
    assert "[/bold]x" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", f"/nowhere/{FORGED}\x1b"),
        ("log", "show", "/nowhere/\x1b[31m"),
        ("\x1b[31mstatus",),
        ("graph", HOSTILE.replace("\x00", "")),
        ("log", "show", "--after", "\x1b", "x"),
        ("fleet", "check", "/nowhere/\x9b"),
        ("trust", "make", "out", "--ci", "\x1b[31m"),
        ("token", "mint", "--key", "/nowhere/\u202e", "--hostname", "x", "--fingerprint", "0" * 64),
        ("config", "check", "\x1b"),
    ],
    ids=lambda arguments: arguments[0].encode("unicode_escape").decode(),
)
def test_an_error_about_a_hostile_argument_is_shown_escaped(
    arguments: tuple[str, ...], nixfleet: Invoke
) -> None:
    """A path or a name in an error text is data, too."""
    refused = nixfleet(*arguments)
    assert refused.exit_code in {1, 2}
    require_harmless(refused)


def test_a_fleet_file_is_reported_escaped(nixfleet: Invoke, tmp_path: Path) -> None:
    """Names and values of a declaration are data: in problems and in summaries."""
    file = tmp_path / "fleet.toml"
    file.write_text(
        '[fleet]\nname = "\\u001B[31m\\n  999 forged"\n[hosts."web\\u202E"]\nchannel = "a\\n  999"\n'
    )
    for arguments in (("check", file), ("check", "--json", file), ("explain", "-f", file, "\x1b")):
        require_harmless(nixfleet("fleet", *arguments))


def test_a_release_that_is_not_one_is_reported_escaped(nixfleet: Invoke, tmp_path: Path) -> None:
    """A directory's name and content reach the error text as data."""
    place = tmp_path / "\x1b[31m\n  999 forged"
    (place / "rollouts").mkdir(parents=True)
    (place / "fleet.resolved.json").write_bytes(b'{"\\u001b\\n  999": 1}')
    (place / "fleet.resolved.json.sig").write_bytes(b"\x1b")
    trust = tmp_path / "trust.json"
    trust.write_bytes(b'{"\\u202e": "\\n  999"}')
    for arguments in (
        ("release", "check", place, "--trust", trust),
        ("release", "diff", place, place),
        ("trust", "check", trust, place),
    ):
        refused = nixfleet(*arguments)
        assert refused.exit_code in {1, 2}
        require_harmless(refused)


def test_a_minted_token_names_its_host_as_toml_does(nixfleet: Invoke, tmp_path: Path) -> None:
    """The entry for the list of nonces stays one entry, whatever the host is called."""
    assert nixfleet("keys", "new", tmp_path / "org.key").exit_code == 0
    minted = nixfleet(
        *("token", "mint", "--key", tmp_path / "org.key", "--fingerprint", "0" * 64),
        *("--hostname", 'x"\n  999\x1b'),
    )
    assert minted.exit_code == 0, minted.output
    require_harmless(minted)


def test_a_log_line_is_one_line_of_ascii_whatever_was_said() -> None:
    """Control characters, bidi marks and half a surrogate pair become escapes of JSON."""
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (f"{HOSTILE}\ud800",), None)
    record.created = datetime(2026, 5, 16, 1, tzinfo=UTC).timestamp()
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert orjson.loads(line.replace("\\ud800", ""))["message"] == HOSTILE
    assert '"time":"2026-05-16T01:00:00Z"' in line


def test_a_log_line_is_bounded_whatever_was_said() -> None:
    """It loses its middle: what went wrong is at its end."""
    said = "x" * 1_000_000 + " refused"
    record = logging.LogRecord(
        "x", logging.WARNING, "", 0, "the heartbeat fails: %s", (said,), None
    )
    message = orjson.loads(JsonLines().format(record))["message"]
    assert len(message) <= MESSAGE_LENGTH_MAX
    assert message.startswith("the heartbeat fails: xx")
    assert message.endswith("x refused")


def test_a_blank_reason_is_refused() -> None:
    """A command whose reason says nothing is not sent."""
    for reason in ("", "  "):
        refused = CliRunner().invoke(main, ["operator", "pause", "stable", "--reason", reason])
        assert refused.exit_code == 2
        assert "--reason" in refused.stderr
        assert "expected a text" in refused.stderr
