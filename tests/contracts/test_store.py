"""Our store keeps the contract of a store, and the contract leaves no kind of write out."""

from pathlib import Path
from typing import get_args

from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_testing.contracts.store import StoreContract
from nixfleet_testing.contracts.store_cases import CASES, ROWS
from tests.support.lossy_connection import LossyConnection, Lost, lossy


class TestSqliteStore(StoreContract):
    """The embedded default."""

    lossy: type[LossyConnection]

    async def open_store(self, directory: Path) -> Store:
        """Open the database in `directory`."""
        kind = self.lossy = lossy()

        class OfLossyConnections(SqliteStore):
            connection_type = kind

        return ThreadedStore(OfLossyConnections(directory / "control-plane.sqlite"))

    def lose_the_next_answer(self) -> None:
        """SQLite reports an error of a COMMIT that it carried out."""
        self.lossy.losing.append(Lost.ANSWER)


class TestSqliteStoreUnderTrio(TestSqliteStore):
    """The same under trio."""

    backend = "trio"


def test_a_new_kind_of_write_must_be_in_the_contract() -> None:
    """Every kind of write is committed and read back by some case."""
    written = {type(write) for case in CASES.values() for write in (*ROWS, *case.writes)}

    assert written == set(get_args(Write))
