"""The process of the local page: one socket on loopback, one secret, one redirect file.

The socket is bound before the file is written, so that the port in it is ours. The secret lives as long as the process.
"""

import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import uvicorn
from attrs import frozen

from nixfleet_runtime.kernel.clock import Clock
from nixfleet_ui.admission import ADDRESS, Admission
from nixfleet_ui.app import Operator, Upstream, make_page
from nixfleet_ui.assets import load_assets
from nixfleet_ui.notifier import Notifier, no_notifier
from nixfleet_ui.redirect_file import redirect_file

TOKEN_BYTES: Final = 32
CONNECTIONS_MAX: Final = 128
HEADER_BYTES_MAX: Final = 16 * 1024
SHUTDOWN_SECONDS_MAX: Final = 1


@frozen
class Served:
    """A page that is served. file: what a browser opens. admission: its address and its secret."""

    file: Path
    admission: Admission

    @property
    def url(self) -> str:
        """The address with the secret. It belongs into a browser, and never on a command line or into a log."""
        return url_of(self.admission)


def url_of(admission: Admission) -> str:
    """Return the address of the page, with the secret in its fragment."""
    return f"{admission.origin}/#{admission.token}"


@asynccontextmanager
async def serving(
    operator: Operator,
    upstream: Upstream,
    clock: Clock,
    version: str,
    listening: socket.socket,
    notifier: Notifier = no_notifier,
) -> AsyncIterator[Served]:
    """Serve the page on `listening` while the context is open, and close it. Raises: OSError, of the redirect file."""
    with closing(listening):
        admission = Admission(listening.getsockname()[1], secrets.token_urlsafe(TOKEN_BYTES))
        page = make_page(admission, operator, upstream, load_assets(), clock, version, notifier)
        server = _Server(
            uvicorn.Config(
                page,
                http="h11",  # bounds what it reads of a request before it is complete
                h11_max_incomplete_event_size=HEADER_BYTES_MAX,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
            )
        )
        with redirect_file(url_of(admission)) as file:
            async with _served_by(server, listening):
                yield Served(file, admission)


class _Server(uvicorn.Server):
    """uvicorn, without its signal handlers: signals are the command's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


@asynccontextmanager
async def running_server(config: uvicorn.Config, listening: socket.socket) -> AsyncIterator[None]:
    """Serve on `listening` while the context is open, and leave signals to the one who calls. `listening` is closed."""
    with closing(listening):
        async with _served_by(_Server(config), listening):
            yield


@asynccontextmanager
async def _served_by(server: uvicorn.Server, listening: socket.socket) -> AsyncIterator[None]:
    async def serve() -> None:
        # Only `should_exit` lets it close what it opened.
        with anyio.CancelScope(shield=True):
            await server.serve([listening])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            while not server.started:
                await anyio.lowlevel.checkpoint()
            yield
        finally:
            server.should_exit = True


def listening_on(port: int) -> socket.socket:
    """Return a socket on loopback alone. port: 0: any that is free. Raises: OSError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ADDRESS, port))
    except OSError:
        listening.close()
        raise
    return listening
