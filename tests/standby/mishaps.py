"""What can happen to a leader, and what follows: the other one leads, and the first one follows in the end."""

import os
import signal
import time
from enum import Enum, auto

import anyio.to_thread
from attrs import field, frozen

from tests.postgres.proxy import Proxy
from tests.standby.planes import Plane, Planes
from tools.postgres.server import Server


class Mishap(Enum):
    """What happens to the leader."""

    KILLED = auto()
    STANDS_STILL = auto()
    CUT_OFF = auto()
    """Nothing arrives at the server any more, and nothing from there; no connection breaks."""
    SESSIONS_BREAK = auto()
    SERVER_RESTARTS = auto()
    STOPPED = auto()
    """In order: it hands over."""


@frozen
class Stage:
    """Two control planes, each with a proxy between it and the server.

    seconds: after each mishap, how long it took until one led that may answer.
    """

    planes: Planes
    proxies: list[Proxy]
    server: Server
    seconds: dict[Mishap, list[float]] = field(factory=lambda: {each: [] for each in Mishap})

    async def let(self, mishap: Mishap) -> None:
        """Let it happen to who leads, and return when one leads and the other stands by."""
        leader = await self.planes.leader()
        other = self.planes.other(leader)
        proxy = self.proxies[list(self.planes.planes).index(leader)]
        begun = time.monotonic()
        match mishap:
            case Mishap.KILLED:
                await leader.child.kill()
                await self._led_by(other, mishap, begun)
                await leader.child.start_and_wait()
            case Mishap.STANDS_STILL:
                os.kill(leader.child.pid, signal.SIGSTOP)
                await self._led_by(other, mishap, begun)
                os.kill(leader.child.pid, signal.SIGCONT)
            case Mishap.CUT_OFF:
                proxy.silent = True
                await self._led_by(other, mishap, begun)
                proxy.silent = False
            case Mishap.SESSIONS_BREAK:
                proxy.cut_all()
                await self.planes.leader()
                self.seconds[mishap].append(time.monotonic() - begun)
            case Mishap.SERVER_RESTARTS:
                await anyio.to_thread.run_sync(self.server.restart)
                begun = time.monotonic()
                await self.planes.leader()
                self.seconds[mishap].append(time.monotonic() - begun)
            case Mishap.STOPPED:
                assert await leader.child.stop() == 0
                await self._led_by(other, mishap, begun)
                await leader.child.start_and_wait()
        leader = await self.planes.leader()
        await self.planes.other(leader).until_it_stands_by()

    async def _led_by(self, plane: Plane, mishap: Mishap, begun: float) -> None:
        await plane.until_it_leads()
        self.seconds[mishap].append(time.monotonic() - begun)
