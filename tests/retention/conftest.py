"""A disk that is small enough to be filled."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a mebibyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory)
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield directory
    subprocess.run(("umount", directory), check=True)
