"""Why a PostgreSQL database cannot be used as a store. Each error says what to do; none shows a password."""

from collections.abc import Sequence

from nixfleet_control_plane.history.rebuild import ViewDifference
from nixfleet_control_plane.store.opened_store import StoreUnusable, ViewsOfStoreDiffer
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.kernel.write_failures import OwnershipLost


class PostgresUnusable(StoreUnusable):
    """The database cannot be used. Attributes: `where`, `expected`, `found`, `remedy`: what to do."""

    def __init__(self, where: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(where, expected, found, remedy)
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}; {self.remedy}"


class NeedsAsyncio(PostgresUnusable):
    """The event loop is not asyncio's."""


class ConnectionTextUnusable(PostgresUnusable):
    """The file named by the configuration has no connection URL."""


class ServerUnreachable(PostgresUnusable):
    """No server answers there."""


class LoginRefused(PostgresUnusable):
    """The server does not let this role in: a wrong password, an unknown role, a rule of pg_hba.conf."""


class DatabaseMissing(PostgresUnusable):
    """The server has no such database."""


class DatabaseEncoding(PostgresUnusable):
    """The database cannot store every text."""


class ConnectionLimitReached(PostgresUnusable):
    """The server takes no more sessions, or none of this role or database."""


class SessionShared(PostgresUnusable):
    """A pooler gives each transaction another session, and the store needs one."""


class DatabaseReadOnly(PostgresUnusable):
    """Nothing can be written there: a replica, or a setting."""


class ServerFull(PostgresUnusable):
    """The server has no room, or its quota is used up. Nothing was written, and the next commit may succeed."""


class ServerTooOld(PostgresUnusable):
    """The server's version is not supported."""


class ServerNotDurable(PostgresUnusable):
    """The server does not flush what it confirms."""


class PermissionMissing(PostgresUnusable):
    """The role may not do what the store needs."""


class SchemaMissing(PostgresUnusable):
    """The schema is not there, and only reading was asked for."""


class SchemaVersionRefused(PostgresUnusable):
    """The schema is of a version that this program does not know, or may not change."""


class StoredViewsDiffer(PostgresUnusable, ViewsOfStoreDiffer):
    """This program derives other views from the log than are stored. differences: all of them."""

    def __init__(self, where: str, found: str, differences: Sequence[ViewDifference]) -> None:
        remedy = (
            "nothing was changed: go on with the program that wrote them, or let `nixfleet db upgrade --rebuild "
            "--config FILE` derive the views anew, after a backup"
        )
        super().__init__(where, "the views that this program derives from the log", found, remedy)
        self.differences = tuple(differences)


class AnotherFleet(PostgresUnusable):
    """The schema belongs to another fleet."""


class SchemaNotEmpty(PostgresUnusable):
    """A database is to be copied into a schema that has a log already."""


class NotDropped(PostgresUnusable):
    """Rows that were exported are still there, and nothing else is missing: the next try goes on from there."""


class AnotherOwner(OwnershipLost):
    """Another process opened the store after this one. expected, found: the epochs."""

    def __str__(self) -> str:
        return (
            f"{self.where}: expected epoch {self.expected}, which this process took, found {self.found}: another "
            "control plane has opened the store and owns it now; run one at a time"
        )


class LeaseTaken(OwnershipLost):
    """Another process has taken the lease. expected, found: the leases."""

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}: another control plane leads"


class NotReplicated(NixfleetError):
    """The server confirms a commit that a synchronous replica may lack. Attributes: `where`, `expected`, `found`."""

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(where, expected, found)
        self.where = where
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


class OlderState(OwnershipLost):
    """The log ends before rows that this process wrote. expected, found: epoch and last row."""

    def __str__(self) -> str:
        return (
            f"{self.where}: expected {self.expected}, which this process wrote, found {self.found}: an older state was "
            "restored, or a replica was promoted that lacked the last commits; start the control plane again, and "
            "hosts send what is missing"
        )


class OutOfOrder(NixfleetError):
    """A commit does not follow what is there. Nothing of it was written. Attributes: `where`, `expected`, `found`."""

    def __init__(self, where: str, expected: str, found: str) -> None:
        super().__init__(where, expected, found)
        self.where = where
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.where}: the log is append-only: expected {self.expected}, found {self.found}"
