"""The server in front of the application: uvicorn, with the connections and the bounds that are ours."""

from pathlib import Path

import uvicorn
from attrs import frozen
from starlette.types import ASGIApp

from nixfleet_control_plane.http.server.connection import connection_class
from nixfleet_control_plane.http.server.limits import Limits

SHUTDOWN_SECONDS_MAX = 10


@frozen
class TlsFiles:
    """What the server proves its name with, both PEM."""

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
) -> uvicorn.Config:
    """Return how uvicorn is to serve `app`: `uvicorn.Server(server_config(...)).serve()`.

    port: 0 for any that is free. tls: `None` for plain HTTP. behind_proxy: the client's address is what the proxy says.
    shutdown_seconds_max: how long a request that was begun may take once the server is to end.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=connection_class(limits),
        ws="none",
        lifespan="off",
        # What happens is in the canonical log and the metrics; uvicorn's own complaints go where ours go.
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
