"""Replaces whole files, so that a reader, and a machine that stops at any moment, find the old content or the new.

Every file that a process replaces is written here. What must never go over another file is linked instead.
"""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

_NEW_FILE_MODE = 0o644


def replace_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Give the file at `path` this content, durably. mode: default that of the file before, 0644 for a new one.

    Raises: OSError; the file is unchanged then.
    """
    if mode is None:
        mode = path.stat().st_mode & 0o7777 if path.exists() else _NEW_FILE_MODE
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        fresh = Path(file.name)
        try:
            file.write(content)
            file.flush()
            fresh.chmod(mode)
            os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    make_durable(path.parent)


def make_durable(directory: Path) -> None:
    """Write the directory itself down: without it the name may still lead to the old file after a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
