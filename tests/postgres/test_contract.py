"""The PostgreSQL store keeps the contracts of a store and of a shared one, on a real server."""

from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path

import pytest

from nixfleet_control_plane.leadership.shared_store import SharedStore
from nixfleet_control_plane.store.store import Store
from nixfleet_postgres.postgres_store import open_store
from nixfleet_postgres.sharing import open_share
from nixfleet_testing.contracts.shared_store import SharedStoreContract
from nixfleet_testing.contracts.store import StoreContract
from tests.postgres.proxy import Cut, Proxy
from tools.postgres.server import Server


class TestPostgresStore(StoreContract):
    """Each directory is a schema of its own."""

    is_on_disk = False

    @pytest.fixture(autouse=True)
    def _on_a_server(self, server: Server, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy

    async def open_store(self, directory: Path) -> Store:
        """Open the schema of `directory`, through a proxy that can cut the connection."""
        name = sha256(str(directory).encode()).hexdigest()[:16]
        url = self.server.url(port=self.proxy.port)
        return await open_store(self.server.target(directory, name, url))

    def lose_the_next_answer(self) -> None:
        """The server commits, and the connection breaks before its answer arrives."""
        self.proxy.cut = Cut.ANSWER


class TestPostgresShare(SharedStoreContract):
    """Each directory is a schema of its own."""

    @pytest.fixture(autouse=True)
    def _on_a_server(self, server: Server) -> None:
        self.server = server

    def open_share(self, directory: Path) -> AbstractAsyncContextManager[SharedStore]:
        """Open a part in the schema of `directory`."""
        name = sha256(str(directory).encode()).hexdigest()[:16]
        return open_share(self.server.target(directory, name), 0.5)
