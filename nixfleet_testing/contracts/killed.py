"""A process that is killed in the middle of a write: by the kernel, once a file of it is as long as a test allows."""

import os
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

PARTS = (0.0, 0.01, 0.1, 0.5, 0.9)
"""How much of what the process writes may be written before it is killed."""
LAST_BYTES = (1, 4_200)
"""How many bytes before the end of all that it writes it is killed."""


def killed_copies(directory: Path, beside: Path, work: Callable[[Path], None]) -> Iterator[Path]:
    """Yield copies of `directory` in which a process was killed while it did `work`, each in another place of a write.

    In the first one it is not killed, and in the second no file can be written beyond half of the longest.
    """
    whole = beside / "killed after all"
    shutil.copytree(directory, whole)
    _killed_at(resource.RLIM_INFINITY, partial(work, whole))
    before, after = _longest(directory), _longest(whole)
    yield whole
    limits = {before // 2, *(before + int((after - before) * part) for part in PARTS)}
    for file_bytes_max in sorted(limits | {after - last for last in LAST_BYTES}):
        copy = beside / f"killed at {file_bytes_max}"
        shutil.copytree(directory, copy)
        _killed_at(file_bytes_max, partial(work, copy))
        yield copy


def end_here() -> NoReturn:
    """End the process that `work` runs in, as it is."""
    os._exit(0)


def _longest(directory: Path) -> int:
    return max(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _killed_at(file_bytes_max: int, work: Callable[[], None]) -> None:
    """Do `work` in a child process, which the kernel kills when it makes a file longer than that."""
    with warnings.catch_warnings():
        # The child starts threads of its own, and uses none of this process.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
