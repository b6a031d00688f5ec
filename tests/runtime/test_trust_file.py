"""A trust file is followed while a process runs: by signal, by looking, and never into nothing."""

import os
import signal
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_runtime.process.trust_file import TrustFile

pytestmark = pytest.mark.anyio
FIRST, SECOND = (TrustRoot(KeySlot(SigningKey(bytes([it]) * 32).public_key)) for it in (1, 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "trust.json"
    file.write_bytes(encode_trust_root(FIRST))
    return file


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


async def test_a_changed_file_is_used_once(path: Path) -> None:
    """The same content again is no change."""
    used: list[TrustRoot] = []
    followed = TrustFile(path, FIRST, used.append)

    await followed.look()
    _write(path, encode_trust_root(SECOND))
    await followed.look()
    await followed.look()

    assert used == [SECOND]


async def test_a_file_that_cannot_be_used_changes_nothing_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys in force stay in force; a file that is in order again is used."""
    used: list[TrustRoot] = []
    followed = TrustFile(path, FIRST, used.append)
    _write(path, b"{")
    for _ in range(3):
        await followed.look()
    assert (used, caplog.text.count("the trust in force is kept")) == ([], 1)

    _write(path, encode_trust_root(SECOND))
    await followed.look()
    assert used == [SECOND]


async def test_a_pipe_in_place_of_the_file_holds_nothing_up(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused as any file that is not regular, at once; the keys in force stay in force."""
    used: list[TrustRoot] = []
    _replace_by_pipe(path)
    with anyio.fail_after(5):
        await TrustFile(path, FIRST, used.append).look()
    assert used == []
    assert "the trust in force is kept" in caplog.text


async def test_sighup_reads_the_file_at_once(path: Path) -> None:
    """Without waiting for the next look."""
    changed = anyio.Event()
    followed = TrustFile(path, FIRST, lambda _: changed.set())
    _write(path, encode_trust_root(SECOND))

    async def signal_when_followed(_: float) -> None:
        await anyio.lowlevel.checkpoint()
        os.kill(os.getpid(), signal.SIGHUP)
        await anyio.sleep_forever()

    before = signal.signal(signal.SIGHUP, lambda *_: None)  # in case it comes too early
    try:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(followed.follow, signal_when_followed)
                await changed.wait()
                tasks.cancel_scope.cancel()
    finally:
        signal.signal(signal.SIGHUP, before)
