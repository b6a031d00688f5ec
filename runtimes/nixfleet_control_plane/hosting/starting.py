"""What a configuration starts: the service of one log or of all shards, and the read port over them.

Source: docs/spec/shards.md, Configuration.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from nixfleet_control_plane.config import ControlPlaneConfig
from nixfleet_control_plane.config_shards import ShardConfig, shard_map
from nixfleet_control_plane.forecaster import Forecaster, NoForecaster, forecasting
from nixfleet_control_plane.hosting.hosting import ChannelsMoved, Run, hosting
from nixfleet_control_plane.hosting.sharded_queries import ShardedQueries
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.starting import CannotStart, using_store
from nixfleet_control_plane.store.opened_store import OpenedStore
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_state_machine.shards.shard_map import MAIN


@asynccontextmanager
async def opened_shards(
    shards: tuple[ShardConfig, ...],
) -> AsyncIterator[Mapping[str, OpenedStore]]:
    """Open the stores of the shards beside `MAIN`, by name; close them at the end. Raises: CannotStart."""
    async with AsyncExitStack() as held:
        opened: dict[str, OpenedStore] = {}
        for each in shards:
            with using_store(each.store):
                opened[each.name] = await held.enter_async_context(each.store.opened())
        yield opened


def queries_of(
    config: ControlPlaneConfig, main: Queries, shards: Mapping[str, OpenedStore]
) -> Queries:
    """Return the read port of the store, or the one over those of all shards. main, shards: as they were opened."""
    if not config.shards:
        return main
    ports = {name: each.queries for name, each in shards.items()}
    return ShardedQueries(shard_map(config.shards), {MAIN: main, **ports})


@asynccontextmanager
async def hosted(
    config: ControlPlaneConfig, opened: Mapping[str, OpenedStore], run: Run, clock: Clock
) -> AsyncIterator[ControlPlaneService]:
    """Run all shards while the context is open. opened: the store of each. Raises: CannotStart."""
    try:
        async with hosting(shard_map(config.shards), opened, run, clock) as service:
            yield service
    except ChannelsMoved as error:
        raise CannotStart("the shards", str(error)) from error


def forecaster_of(
    config: ControlPlaneConfig, service: ControlPlaneService
) -> AbstractAsyncContextManager[Forecaster]:
    """Return what gives forecasts while it is open. One is made of one log, so a fleet with shards has none."""
    if config.shards and not config.forecast.disabled:
        return nullcontext(
            NoForecaster("a forecast is made of one log, and this fleet has several")
        )
    return forecasting(config.forecast, config.store, lambda: service.feed.head, service.now)
