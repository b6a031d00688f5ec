"""Files that were written and are not on the disk: what a power failure would lose, asked of Linux (`cachestat`)."""

import ctypes
import os
from pathlib import Path
from typing import Final

_CACHESTAT: Final = (
    451  # since Linux 6.5, the same on every architecture that Python is built for here
)
_PROBE_BYTES: Final = 64 * 1024


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cached(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recent")
    )


def tells_unflushed(directory: Path) -> bool:
    """Return whether the kernel and the file system of `directory` tell: an unflushed file is seen as one."""
    probe = directory / "probe of the disk"
    probe.write_bytes(b"x" * _PROBE_BYTES)
    try:
        return _unflushed_pages(probe) > 0
    finally:
        probe.unlink()


def unflushed_files(directory: Path) -> list[str]:
    """Return the names of the files in `directory` with pages that are not on the disk.

    Files that this process has mapped are left out: they are shared memory, and are made anew after a power failure.
    """
    mapped = Path("/proc/self/maps").read_text()
    files = (file for file in directory.rglob("*") if file.is_file() and str(file) not in mapped)
    return sorted(file.name for file in files if _unflushed_pages(file) > 0)


def _unflushed_pages(file: Path) -> int:
    """Return how many pages of `file` are not on the disk; 0 if the kernel does not tell."""
    whole, found = _Range(0, 0), _Cached()
    descriptor = os.open(file, os.O_RDONLY)
    try:
        call = ctypes.CDLL(None).syscall
        if call(_CACHESTAT, descriptor, ctypes.byref(whole), ctypes.byref(found), 0) != 0:
            return 0
    finally:
        os.close(descriptor)
    return int(found.dirty) + int(found.writeback)
