"""Secrets of hooks: read where they are needed, at each use, so that a file can be replaced without a restart.

They are never options and never arguments of a process: only the places of their files are.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_runtime.storage.regular_file import read_regular_file

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_BYTES_MAX: Final = 8 * 1024


@frozen
class Secret:
    """The text of a file. is_credential: the service manager guards its directory, and gives the file its rights."""

    path: Path
    is_credential: bool = False

    def text(self) -> str:
        """Return it. Raises: OSError, UnicodeDecodeError."""
        return read_regular_file(self.path, bytes_max=_BYTES_MAX).decode("ascii").strip()


def credential_path(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where the service manager put the credential `name`; `None`: it put none anywhere."""
    directory = environ.get(CREDENTIALS)
    return None if directory is None else Path(directory, name)
