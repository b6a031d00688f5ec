"""How much of everything, and from which seed. `make test-faults` asks for more than `make test`.

NIXFLEET_KILLS: how many times each side is killed. NIXFLEET_SEED: what chance begins with, printed with a failure.
"""

import os
import random
from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

KILLS_DEFAULT = 5


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def kills() -> int:
    """How many times somebody is killed."""
    return int(os.environ.get("NIXFLEET_KILLS", KILLS_DEFAULT))


@pytest.fixture
def chance() -> random.Random:
    """What decides when and whom."""
    seed = int(os.environ.get("NIXFLEET_SEED", random.SystemRandom().randrange(2**32)))
    print(f"NIXFLEET_SEED={seed}")
    return random.Random(seed)


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
