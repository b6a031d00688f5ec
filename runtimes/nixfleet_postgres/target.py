"""Which database a store is in. Connects to nothing, and imports no driver: a configuration is checked without one."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from nixfleet_postgres.errors import ConnectionTextUnusable

SCHEMES: Final = ("postgresql", "postgres")


@frozen
class Target:
    """A schema of a database. dsn_file: has the connection URL, with the password, and nothing else.

    fleet: whose data the schema may have. owner_dsn_file: the URL of the role that makes and upgrades the schema, if
    the store's own role may not.
    """

    dsn_file: Path
    schema: str = "nixfleet"
    fleet: str = "nixfleet"
    owner_dsn_file: Path | None = None

    @property
    def where(self) -> str:
        """What messages call it: without host and password, which the file has."""
        return f"PostgreSQL of {self.dsn_file}, schema {self.schema}"


def connection_url(file: Path) -> str:
    """Return the URL in `file`. Raises: ConnectionTextUnusable, which shows nothing of it."""
    expected = "one line: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    remedy = "write the connection URL of the database there"
    try:
        text = file.read_text(encoding="utf-8").strip()
        parts = urlsplit(text)
        _ = parts.port
    except (OSError, ValueError) as error:
        found = error.strerror if isinstance(error, OSError) else "another text"
        raise ConnectionTextUnusable(str(file), expected, found or "no file", remedy) from None
    if parts.scheme not in SCHEMES or len(text.split()) != 1:
        raise ConnectionTextUnusable(str(file), expected, "another text", remedy)
    return text
