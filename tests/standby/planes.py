"""Several control planes of one site on one schema, each a process with a directory, a port and a way to the server."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import httpx2
from attrs import field, frozen

from nixfleet_cli.demo.child import Child
from nixfleet_cli.demo.sides import Settings, control_plane_in, free_port
from nixfleet_postgres.target import Target
from tests.faults.site import Site

LEASE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0
LOOKED_EVERY_SECONDS = 0.01


@frozen
class Plane:
    """One control plane. child: its process, which may be killed and started again."""

    name: str
    port: int
    child: Child

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str) -> httpx2.Response | None:
        """Return what it answers without a signature; `None`: nothing, in a second."""
        async with httpx2.AsyncClient(trust_env=False, timeout=1.0) as client:
            try:
                return await client.get(self.url + path)
            except httpx2.HTTPError:
                return None

    async def leads(self) -> bool:
        """Return whether it says that it leads."""
        answer = await self.get("/metrics")
        return answer is not None and "nixfleet_leader 1.0" in answer.text

    async def stands_by(self) -> bool:
        """Return whether it says that it follows another one."""
        answer = await self.get("/readyz")
        return answer is not None and answer.status_code == 503 and "standby of" in answer.text

    async def until_it_leads(self) -> None:
        """Raises: TimeoutError."""
        await _until(self.leads)

    async def until_it_stands_by(self) -> None:
        """Raises: TimeoutError."""
        await _until(self.stands_by)


@frozen
class Planes:
    """The control planes of a site."""

    site: Site
    target: Target
    planes: Sequence[Plane] = field(factory=tuple)

    @property
    def urls(self) -> str:
        """What agents are told."""
        return ",".join(plane.url for plane in self.planes)

    async def leader(self) -> Plane:
        """Return the one that leads, once one does. Raises: TimeoutError."""
        found: list[Plane] = []

        async def some_leads() -> bool:
            found[:] = [plane for plane in self.planes if await plane.leads()]
            return bool(found)

        await _until(some_leads)
        return found[0]

    def other(self, than: Plane) -> Plane:
        """Return one of the others."""
        return next(plane for plane in self.planes if plane is not than)

    def leave_nothing_running(self) -> None:
        """End at once whatever still runs."""
        for plane in self.planes:
            plane.child.make_sure_it_ended()


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so: processes tell no event loop of ours when they lead."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not await is_so():  # noqa: ASYNC110
            await anyio.sleep(LOOKED_EVERY_SECONDS)


def planes_of(
    site: Site, targets: Sequence[Target], *, lease_seconds: float = LEASE_SECONDS
) -> Planes:
    """Return as many control planes as there are targets, which name one schema; none is started."""
    planes = [
        _plane(site, f"control-{number}", target, lease_seconds)
        for number, target in enumerate(targets, start=1)
    ]
    return Planes(site, targets[0], planes)


def _plane(site: Site, name: str, target: Target, lease_seconds: float) -> Plane:
    directory: Path = site.directory / name
    directory.mkdir()
    port = free_port()
    settings: Settings = {
        "store.kind": "postgres",
        "store.dsn_file": target.dsn_file,
        "store.schema": target.schema,
        "store.lease_seconds": lease_seconds,
        "listen.port": port,
        "trust.file": "../trust.json",
        "releases.directory": "../releases",
        "releases.poll_seconds": 0.1,
        "ticks.plan_seconds": 0.2,
    }
    return Plane(name, port, control_plane_in(directory, settings, site.clock_arguments))
