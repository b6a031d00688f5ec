"""Opens an agent's journal for one consistent read, also while the agent runs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nixfleet_agent.journal.queries import open_journal_for_reading
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError
from nixfleet_runtime.storage.copies import NotUpgraded
from nixfleet_runtime.storage.sqlite import NotOurDatabase, SchemaRefused


def is_journal(path: Path) -> bool:
    """Return whether an agent's journal is at `path`. Raises: Unusable, when it is one of a newer version."""
    try:
        open_journal_for_reading(path).close()
    except (SchemaRefused, NotUpgraded) as error:
        raise Unusable(str(error)) from error
    except (FileNotFoundError, NotOurDatabase, sqlite3.Error):
        return False  # What is wrong with it then is for the reader of the other kind to say.
    return True


@contextmanager
def reading_journal(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal at `path`: later commits are not seen. Raises: Findings, Unusable."""
    try:
        with closing(open_journal_for_reading(path)) as journal:
            journal.execute("BEGIN")
            yield journal
    except DecodeError as error:
        raise Findings(f"{path}: a row of the journal is damaged: {error}") from error
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
