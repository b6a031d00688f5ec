"""A notifier is killed, again and again, between whatever it does. Each row reaches its receiver once, by its id.

The process, the control plane's server, the receiver and the files are real; so are the kills.
"""

import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process, SocketStream

from nixfleet_notify.delivery.engine import Save
from nixfleet_notify.delivery.state import HookState
from nixfleet_notify.files.stored import NotifierFiles
from nixfleet_runtime.http import paths
from tests.notify.receiver import Received, Receiver, receiving, take
from tests.support.served_control_plane import READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 60
PATIENCE_SECONDS_PER_KILL = 10
COMMANDS_PER_KILL = 4
CONFIG = """
[control_plane]
url = "{url}"
operator = "bob"
key_file = "bob.key"
[files]
directory = "notifier"
[egress]
private_hosts = ["127.0.0.1"]
[hooks.pager]
kind = "webhook"
url = "{hook}"
types = ["operator.commanded"]
coalesce_seconds = 0
"""


class _Victim:
    """A notifier as a process, which is started again after each kill."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: Process | None = None

    async def start(self) -> None:
        command = (sys.executable, "-m", "nixfleet_cli", "notify", "run", "--config")
        with (self._config.parent / "stderr").open("ab") as stderr:
            self._process = await anyio.open_process(
                [*command, str(self._config)], stdout=subprocess.DEVNULL, stderr=stderr
            )

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async def stop(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        return await process.wait()


@asynccontextmanager
async def _notified(directory: Path) -> AsyncIterator[tuple[Site, Receiver, _Victim]]:
    """A control plane, a receiver, and a notifier between them that has not been started."""
    READER_KEY.save(directory / "bob.key")
    files = NotifierFiles(directory / "notifier")
    files.prepare()
    files.save("pager", Save(HookState(cursor=0)))
    (directory / "site").mkdir()
    async with site_with(directory / "site") as site, receiving() as receiver:
        await site.publish()
        config = directory / "notify.toml"
        config.write_text(CONFIG.format(url=site.url, hook=receiver.url))
        victim = _Victim(config)
        try:
            yield site, receiver, victim
        finally:
            with anyio.CancelScope(shield=True):
                await victim.kill()


async def test_killed_at_any_moment_it_tells_each_row_once(
    tmp_path: Path, kills: int, chance: random.Random
) -> None:
    """Before it has an answer, after it has one, and while it starts: no row is skipped, and each has one id."""
    left = kills
    async with _notified(tmp_path) as (site, receiver, victim):
        restart = anyio.Event()

        async def answer(stream: SocketStream, request: Received) -> None:
            nonlocal left
            fate = chance.choice(("taken", "taken", "unheard", "heard")) if left else ""
            if fate == "unheard":
                left -= 1
                await victim.kill()
                restart.set()
                return
            await take(stream, request)
            if fate == "heard":
                left -= 1
                await victim.kill()
                restart.set()

        receiver.answer = answer
        with anyio.fail_after(PATIENCE_SECONDS + kills * PATIENCE_SECONDS_PER_KILL):
            await victim.start()
            for number in range(kills * COMMANDS_PER_KILL):
                verb = "/resume" if number % 2 else "/pause"
                path = paths.channel_path("stable", verb)
                asked = await site.operate("POST", path, b'{"reason":"a drill"}')
                assert asked.status_code == 204, asked.text
            rows = await _commands(site)
            assert len(rows) == kills * COMMANDS_PER_KILL
            async with anyio.create_task_group() as tasks:

                async def revive() -> None:
                    nonlocal restart
                    while True:
                        await restart.wait()
                        restart = anyio.Event()
                        await victim.start()

                tasks.start_soon(revive)
                await receiver.until(lambda: len(receiver.ids) == len(rows) and not left)
                tasks.cancel_scope.cancel()
            assert await victim.stop() == 0, (tmp_path / "stderr").read_text()[-2000:]

    told = [str(request.event["id"]) for request in receiver.received]
    assert list(dict.fromkeys(told)) == rows, "each once by its id, in order"
    bodies = {request.id: request.body for request in receiver.received}
    assert all(bodies[request.id] == request.body for request in receiver.received)


async def _commands(site: Site) -> list[str]:
    query = f"{paths.LOG}?kind=operator_command"
    answer = await site.operate("GET", query, name="bob", key=READER_KEY)
    return [str(event["seq"]) for event in answer.json()["events"]]
