"""The scratch directory of the demonstration, and what becomes of it: removed, unless somebody needs it.

After an interruption nothing is left behind. After a failure everything is, and the message says where.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixfleet_cli.demo.watch import WentWrong
from nixfleet_cli.shared.failures import Findings, Unusable

_LOG_FILE = "demo.log"


@contextmanager
def scratch_directory(keep: Path | None) -> Iterator[Path]:
    """Make a directory for the time the context is open; with `keep`, that one, and leave it there.

    What the runtimes log meanwhile goes to a file in it: on a terminal it would tear the table apart.
    Raises: Unusable, when `keep` is no place to begin in; Findings, in place of any other exception.
    """
    directory = Path(tempfile.mkdtemp(prefix="nixfleet-demo-")) if keep is None else _empty(keep)
    try:
        with _logging_to(directory / _LOG_FILE):
            yield directory
    except Exception as error:
        where = f"Everything is kept in {directory}; {_LOG_FILE} there may tell more."
        raise Findings(*_told(error).split("\n"), where) from error
    except BaseException:
        _remove(directory, keep)
        raise
    _remove(directory, keep)


def _empty(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = next(directory.iterdir(), None)
    except OSError as error:
        raise Unusable(f"{directory} cannot be used: {error.strerror}") from error
    if found is not None:
        raise Unusable(f"{directory}: expected an empty directory, found {found.name} in it")
    return directory.absolute()


def _remove(directory: Path, keep: Path | None) -> None:
    if keep is None:
        shutil.rmtree(directory)


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except Exception:
        logging.getLogger(__name__).exception("the demonstration went wrong")
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(_told(each) for each in error.exceptions)
    if isinstance(error, WentWrong):
        return str(error)
    return f"expected a story without accidents, found {type(error).__name__}: {error}"
