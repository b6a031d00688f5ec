"""An exec hook: the event on standard input, bounded time and output, and an exit code that is the answer."""

import json
import tempfile
from pathlib import Path

import anyio
import pytest

from nixfleet_notify.delivery.answers import DELIVERED, Answer, Outcome
from nixfleet_notify.messages.message import Message
from nixfleet_notify.ways.program import Program

pytestmark = pytest.mark.anyio

BODY = '{"data":{"text":"web-01 is Failed; $(reboot)"}}'
MESSAGE = Message("abc.chat.17", "org.nixfleet.rollout.halted", BODY, 17, 17)


async def _sh(script: str, *, timeout_seconds: float = 20) -> Answer:
    return await Program("chat", ("/bin/sh", "-c", script), timeout_seconds).send(MESSAGE, 3)


async def test_a_program_reads_the_event_and_is_told_which_attempt_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Besides PATH, LANG and the place of its credentials it has nothing of the notifier's environment."""
    monkeypatch.setenv("NIXFLEET_TOP_SECRET", "hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/notify")

    assert await _sh(f"cat > {tmp_path}/event; env > {tmp_path}/env") == DELIVERED

    assert json.loads((tmp_path / "event").read_text()) == json.loads(BODY)
    said = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {name: value for name, value in said.items() if name.startswith("NIXFLEET")} == {
        "NIXFLEET_NOTIFY_HOOK": "chat",
        "NIXFLEET_NOTIFY_ID": "abc.chat.17",
        "NIXFLEET_NOTIFY_TYPE": "org.nixfleet.rollout.halted",
        "NIXFLEET_NOTIFY_TEXT": "web-01 is Failed; $(reboot)",
        "NIXFLEET_NOTIFY_ATTEMPT": "3",
    }
    assert said["CREDENTIALS_DIRECTORY"] == "/run/credentials/notify"


@pytest.mark.parametrize(
    ("script", "outcome", "why"),
    [
        ("exit 1", Outcome.FAILED, "expected exit code 0, found 1"),
        (
            "echo 'curl: password=hunter2 refused' >&2; exit 75",
            Outcome.FAILED,
            "found 75: curl: password=[redacted] refused",
        ),
        ("printf '\\033[2J' >&2; exit 65", Outcome.REFUSED, "found 65: \\x1b[2J"),
        ("yes", Outcome.FAILED, "expected at most 65536 bytes of output, found more"),
        ("kill -9 $$", Outcome.FAILED, "found 137"),
    ],
)
async def test_a_program_that_does_not_end_well_has_failed(
    script: str, outcome: Outcome, why: str
) -> None:
    """65 refuses the message; everything else is tried again. What it said is shown without secrets."""
    answer = await _sh(script)
    assert answer.outcome is outcome
    assert why in answer.problem


async def test_a_program_that_takes_too_long_is_ended() -> None:
    """It and everything that it started."""
    answer = await _sh("sleep 1000", timeout_seconds=0.05)
    assert answer == Answer(Outcome.FAILED, "expected an end within 0.05 s, found it still running")


async def test_a_program_that_is_not_there_has_failed() -> None:
    """Its name is said."""
    answer = await Program("chat", ("no-such-program",), 20).send(MESSAGE, 1)
    assert answer.outcome is Outcome.FAILED
    assert "no-such-program" in answer.problem


async def test_a_program_for_whose_input_there_is_no_room_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary directory is full, or gone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    answer = await Program("pager", ("true",), 5).send(MESSAGE, 1)

    assert answer.outcome is Outcome.FAILED
    assert "No such file or directory" in answer.problem


async def test_what_a_program_leaves_running_with_its_output_open_holds_up_nothing() -> None:
    """A service that has left the session keeps the pipe; the outcome is that of the program."""
    with anyio.fail_after(10):
        answer = await Program("pager", ("sh", "-c", "setsid sleep 20 &"), 30).send(MESSAGE, 1)

    assert answer == DELIVERED
