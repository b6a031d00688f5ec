"""How much of everything, and from which seed. `make test-faults` asks for more than `make test`.

FAULTS_KILLS: how many times each side is killed. FAULTS_SEED: what chance begins with, printed with a failure.
"""

import os
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.faults.site import Site, make_site

KILLS_DEFAULT = 5


@pytest.fixture
def kills() -> int:
    """How many times somebody is killed."""
    return int(os.environ.get("FAULTS_KILLS", KILLS_DEFAULT))


@pytest.fixture
def chance() -> random.Random:
    """What decides when and whom."""
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


NewSite = Callable[..., Site]


@pytest.fixture
def new_site(tmp_path: Path, probed_port: int) -> Iterator[NewSite]:
    """Makes a site, as `make_site` does; whatever it leaves running is ended."""
    made: list[Site] = []

    def new(hostnames: Sequence[str], **options: Any) -> Site:
        made.append(make_site(tmp_path, hostnames, probed_port, **options))
        return made[-1]

    yield new
    for site in made:
        site.leave_nothing_running()


@pytest.fixture
async def probed_port() -> AsyncIterator[int]:
    """A port where somebody listens, for probes to find."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, _hang_up)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def _hang_up(client: SocketStream) -> None:
    await client.aclose()
