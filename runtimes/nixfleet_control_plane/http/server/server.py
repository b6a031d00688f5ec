"""The configuration of uvicorn, with our connection class and limits."""

from collections.abc import Callable
from pathlib import Path

import uvicorn
from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_control_plane.http.server.connection import connection_class
from nixfleet_control_plane.http.server.limits import Limits

SHUTDOWN_SECONDS_MAX = 10


@frozen
class TlsFiles:
    """The server's certificate and private key, both PEM."""

    certificate_file: Path
    key_file: Path


def server_config(
    app: ASGIApp,
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: TlsFiles | None = None,
    behind_proxy: bool = False,
    shutdown_seconds_max: int = SHUTDOWN_SECONDS_MAX,
    on_refused: Callable[[str], None] = lambda _: None,
) -> uvicorn.Config:
    """Return uvicorn's configuration to serve `app`: `uvicorn.Server(server_config(...)).serve()`.

    port: 0 for any free port. tls: `None` for plain HTTP. behind_proxy: take the client's address from the proxy's
    headers. shutdown_seconds_max: how long a request in progress may take once the server shuts down.
    on_refused: called with the name of the problem when a request is refused before it reaches `app`.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=connection_class(limits, on_refused),
        ws="none",
        lifespan="off",
        # No access log: the canonical log and the metrics have it. uvicorn's own messages go to our log.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="*" if behind_proxy else None,
        timeout_keep_alive=limits.keep_alive_seconds,
        timeout_graceful_shutdown=shutdown_seconds_max,
        ssl_certfile=None if tls is None else tls.certificate_file,
        ssl_keyfile=None if tls is None else tls.key_file,
    )
