"""A server with a schema for each test, a way to it for each control plane, and sites with agents."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_postgres.target import Target
from tests.faults.conftest import chance, new_site, probed_port
from tests.faults.site import Site
from tests.postgres.conftest import anyio_backend, server, target
from tests.postgres.proxy import Proxy, running_proxy
from tests.standby.planes import Planes, planes_of
from tools.postgres.server import Server, file_of

__all__ = ["anyio_backend", "chance", "new_site", "probed_port", "server", "target"]

NewPlanes = Callable[..., Planes]


@pytest.fixture
def new_planes() -> Iterator[NewPlanes]:
    """Makes control planes of a site, as `planes_of` does; whatever they leave running is ended."""
    made: list[Planes] = []

    def new(site: Site, targets: Sequence[Target], *, lease_seconds: float = 1.0) -> Planes:
        made.append(planes_of(site, targets, lease_seconds=lease_seconds))
        return made[-1]

    yield new
    for planes in made:
        planes.leave_nothing_running()


@pytest.fixture
def ways(
    target: Target, server: Server, tmp_path: Path
) -> Iterator[tuple[list[Target], list[Proxy]]]:
    """Two targets of one schema, each behind a proxy of its own."""
    with ExitStack() as held:
        proxies = [held.enter_context(running_proxy(server.port)) for _ in range(2)]
        targets = [
            evolve(target, dsn_file=file_of(tmp_path / f"dsn-{number}", server.url(port=each.port)))
            for number, each in enumerate(proxies, start=1)
        ]
        yield targets, proxies
