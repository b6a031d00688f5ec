"""The local page of the demonstration: `--ui` shows the story in a browser, as it happens and after it.

In one process the control plane has no network. Here it is served on loopback, by the code that serves it elsewhere;
the page asks it as it would ask any other, with the key of an operator of the story.
"""

import signal
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import anyio

import nixfleet
from nixfleet_cli.demo.world import OPERATORS, World, database_in
from nixfleet_cli.shared.output import show_lines
from nixfleet_control_plane.forecaster import ForecastProcess, forecast_command
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.http.server.server import server_config
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_runtime.http.client import signed_client
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_ui.app import Operator
from nixfleet_ui.serving import listening_on, running_server, serving

OVER: Final = "The story is over. The page stays until ^C."


@asynccontextmanager
async def served_over_http(world: World, service: ControlPlaneService) -> AsyncIterator[str]:
    """Serve the control plane of `world` on loopback while the context is open; yield its URL."""
    database, limits, listening = database_in(world.directory), Limits(), listening_on(0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with ForecastProcess(
        forecast_command(database), lambda: service.feed.head, world.clock.now
    ) as forecaster:
        app = make_app(
            service,
            service.ring,
            SqliteQueries(database),
            world.clock,
            limits=limits,
            # Nothing was signed before: there is no earlier process whose commands could come again.
            signed_since=world.clock.now() - timedelta(minutes=1),
            forecaster=forecaster,
        )
        async with running_server(server_config(app, limits, shutdown_seconds_max=1), listening):
            yield url


@asynccontextmanager
async def page_shown(world: World, url: str) -> AsyncIterator[None]:
    """Open the page of the story's first operator in the browser, and serve it while the context is open.

    The fleet's clock signs: a request by this machine's would be refused.
    """
    name = OPERATORS[0]
    key = world.operators[name]
    operator = Operator(name, key, url)
    async with (
        signed_client(url, operator_key_id(name), key, world.clock) as upstream,
        serving(operator, upstream, world.clock, nixfleet.__version__, listening_on(0)) as served,
    ):
        show_lines([f"page: {served.admission.origin}", f"open it with this file: {served.file}"])
        await anyio.to_thread.run_sync(webbrowser.open, served.file.as_uri())
        yield


async def until_interrupted() -> None:
    """Return when the one who looks on has seen enough."""
    show_lines(["", OVER])
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
