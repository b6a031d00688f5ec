"""Signing by a command: a good signature is handed on, and everything else it may do is an error of its own."""

import sys
from pathlib import Path

import pytest

from nixfleet_proto.signing import SigningKey, is_signed_by
from nixfleet_release.sign.signing_hook import (
    HookFailed,
    HookNotStarted,
    HookSignatureInvalid,
    HookTookTooLong,
    HookWroteNoSignature,
    HookWroteNothing,
    SigningHook,
)

KEY = SigningKey(b"\1" * 32)
MESSAGE = b'{"a":1}'
READ = "import os, time; from pathlib import Path; "
READ += 'message = Path(os.environ["NIXFLEET_INPUT"]).read_bytes(); out = Path(os.environ["NIXFLEET_OUTPUT"]); '
SIGN = READ + "from nixfleet_proto.signing import SigningKey; "


def hook(script: str, timeout_seconds: float = 60) -> SigningHook:
    return SigningHook((sys.executable, "-c", script), KEY.public_key, timeout_seconds)


def test_a_hook_that_signs_gives_its_signature() -> None:
    """What the command writes to NIXFLEET_OUTPUT is the signature of what it found in NIXFLEET_INPUT."""
    signature = hook(SIGN + r'out.write_bytes(SigningKey(b"\1" * 32).sign(message))').sign(MESSAGE)

    assert is_signed_by(KEY.public_key, MESSAGE, signature)


def test_a_hook_that_cannot_be_started_is_told_by_name() -> None:
    """A program that is not there is told with what the system says of it."""
    with pytest.raises(HookNotStarted) as caught:
        SigningHook(("/no/such/program",), KEY.public_key).sign(MESSAGE)

    assert caught.value.program == "/no/such/program"
    assert "No such file" in caught.value.why


def test_a_hook_that_fails_is_told_with_its_exit_status() -> None:
    """A signature that was written all the same is not used."""
    with pytest.raises(HookFailed) as caught:
        hook(
            SIGN + r'out.write_bytes(SigningKey(b"\1" * 32).sign(message)); raise SystemExit(7)'
        ).sign(MESSAGE)

    assert caught.value.exit_code == 7


def test_a_hook_that_takes_too_long_is_ended() -> None:
    """The command is not waited for longer than its time."""
    with pytest.raises(HookTookTooLong) as caught:
        hook("import time; time.sleep(600)", timeout_seconds=0.05).sign(MESSAGE)

    assert caught.value.timeout_seconds == 0.05


def test_a_hook_that_writes_nothing_is_told() -> None:
    """A success without a file is no success."""
    with pytest.raises(HookWroteNothing):
        hook("pass").sign(MESSAGE)


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_hook_that_writes_another_length_is_told(length: int) -> None:
    """Short, long, empty or hexadecimal output is told with its length."""
    with pytest.raises(HookWroteNoSignature) as caught:
        hook(READ + f"out.write_bytes(bytes({length}))").sign(MESSAGE)

    assert caught.value.length == length


@pytest.mark.parametrize(
    "signature",
    [
        r'SigningKey(b"\2" * 32).sign(message)',
        r'SigningKey(b"\1" * 32).sign(message + b" ")',
        "bytes(64)",
    ],
    ids=["by another key", "of something else", "no signature at all"],
)
def test_a_hook_that_signs_otherwise_is_told(signature: str) -> None:
    """A signature that the declared public key does not stand behind goes no further."""
    with pytest.raises(HookSignatureInvalid) as caught:
        hook(SIGN + f"out.write_bytes({signature})").sign(MESSAGE)

    assert caught.value.public_key == KEY.public_key.public_key


def test_nothing_of_a_signing_is_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed to the command is removed again, also after a failure."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(HookWroteNothing):
        hook("pass").sign(MESSAGE)

    assert list(tmp_path.iterdir()) == []
