"""What a service says when it cannot use the file that it is told to keep its database in, and what to do about it.

For both services. The errors of `sqlite`, `regular_file` and SQLite say what is wrong; which option names the file, and
what belongs there, is known to the service alone.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.regular_file import UnfitFile
from nixfleet_runtime.storage.sqlite import CommitInDoubt, NotOurDatabase, SchemaRefused

_FULL: Final = "nothing was changed; make room on its disk, and start again"


class UnusableDatabase(NixfleetError):
    """A service cannot use its database. The text names the path once. Attributes: `path`, `problem`, `advice`."""

    def __init__(self, path: Path, problem: str, advice: str) -> None:
        super().__init__(path, problem, advice)
        self.path = path
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        # Most errors name the file; those of SQLite do not.
        named = self.problem if str(self.path) in self.problem else f"{self.path}: {self.problem}"
        return f"{named}; {self.advice}" if self.advice else named


@contextmanager
def opening_database(path: Path, option: str, kind: str, damaged: str) -> Iterator[None]:
    """Turn each error of opening or reading the database at `path` into one that says what to do.

    option: of the configuration, which names the path. kind: what belongs there. damaged: what to do about a database
    that SQLite cannot read.
    Raises: UnusableDatabase.
    """
    try:
        try:
            yield
        except CommitInDoubt as doubt:
            # The next start finds what is there, and goes on from it.
            raise doubt.error from doubt
    except (SchemaRefused, NotUpgraded) as error:
        raise UnusableDatabase(path, str(error), "") from error  # It says what to do.
    except (NotOurDatabase, UnfitFile) as error:
        advice = f"{option} must name {kind}, or a path at which no file is yet"
        raise UnusableDatabase(path, str(error), advice) from error
    except OSError as error:
        advice = f"this user must be able to read and write {option}, and to make files beside it"
        raise UnusableDatabase(path, str(error), _FULL if is_full(error) else advice) from error
    except sqlite3.Error as error:
        raise UnusableDatabase(path, str(error), _FULL if is_full(error) else damaged) from error


def is_full(error: OSError | sqlite3.Error) -> bool:
    """Return whether `error` says that the disk, or this user's part of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
