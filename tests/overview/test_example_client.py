"""The example of a client that only reads runs against a control plane."""

import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.served_control_plane import READER_KEY, site_with

pytestmark = pytest.mark.anyio
EXAMPLE = Path(__file__).parents[2] / "examples" / "read_a_fleet.py"


async def test_the_client_prints_what_the_control_plane_says(tmp_path: Path) -> None:
    key_file = tmp_path / "bob.key"
    READER_KEY.save(key_file)
    async with site_with(tmp_path) as site:
        await site.publish()
        await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "moving \\u001b[31m"}')
        command = [sys.executable, str(EXAMPLE), site.url, "bob", str(key_file), "--once"]

        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(command, capture_output=True, text=True, check=True)
        )

    headline, need, wait = done.stdout.splitlines()
    assert headline.startswith("stable@r1 is held: 0 of 3 hosts have converged, none failed; ")
    assert need.startswith("  needs you: an operator paused channel stable: alice: moving ")
    assert wait.startswith("  3 wait: an operator paused channel stable")
    assert "\x1b" not in done.stdout
