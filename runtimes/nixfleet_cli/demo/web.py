"""The service of one host: a web server that answers out of whatever closure the host runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import Thread

from nixfleet_cli.demo.closures import HEALTH_PAGE, WEB_ROOT

_log = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_CLOSING_CHECKED_EVERY_SECONDS = 0.05


class _Pages(SimpleHTTPRequestHandler):
    """Serves files; says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        pass


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        # The base looks its own name up, for which a machine without a resolver waits for seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _ADDRESS, self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:
        # The base prints: a probe that is stopped half-way would tear the table apart.
        _log.info("a request of %s was not answered", client_address, exc_info=True)


@contextmanager
def serving(profile: Path) -> Iterator[str]:
    """Serve the pages of the closure that `profile` leads to at the time of each request.

    Yields the address of its health page; the port is one that was free.
    """
    pages = partial(_Pages, directory=str(profile / WEB_ROOT))
    with _Server((_ADDRESS, 0), pages) as server:
        thread = Thread(
            target=server.serve_forever, args=(_CLOSING_CHECKED_EVERY_SECONDS,), daemon=True
        )
        thread.start()
        try:
            yield f"http://{_ADDRESS}:{server.server_port}/{HEALTH_PAGE}"
        finally:
            server.shutdown()
            thread.join()
