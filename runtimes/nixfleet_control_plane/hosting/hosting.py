"""Starts the shards of a control plane, and stops them: one service, engine, queue and store for each.

Source: docs/spec/shards.md, Hosting.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import chain
from typing import TypeAlias

import anyio
from attrs import frozen

from nixfleet_control_plane.hosting.shard_log import ShardLog, end_of
from nixfleet_control_plane.hosting.sharded_service import ShardedService
from nixfleet_control_plane.hosting.telling import Telling
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_control_plane.store.opened_store import OpenedStore
from nixfleet_control_plane.store.store import Store
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_state_machine.shards.shard_map import ShardMap, ShardPlace

Run: TypeAlias = Callable[[Store, ShardPlace], AbstractAsyncContextManager[ControlPlaneService]]
"""Runs the service of one shard on its store."""


@frozen
class MovedChannel:
    """A channel of which the log of shard `was_in` has rollouts, and that the configuration gives to `is_in`."""

    channel: str
    was_in: str
    is_in: str

    def __str__(self) -> str:
        return f"{self.channel} of shard {self.was_in}, now in {self.is_in}"


class ChannelsMoved(NixfleetError):
    """Logs have rollouts of channels that the configuration gives to another shard. moved: all of them."""

    def __init__(self, moved: tuple[MovedChannel, ...]) -> None:
        super().__init__(moved)
        self.moved = moved

    def __str__(self) -> str:
        found = "; ".join(map(str, self.moved))
        return (
            f"channels were moved that have rollouts in the log of their shard: {found}. Expected each channel to stay "
            "in its shard: put them back, or give the channel another name, or move it once its rollouts were pruned"
        )


@asynccontextmanager
async def hosting(
    shards: ShardMap, opened: Mapping[str, OpenedStore], run: Run, clock: Clock
) -> AsyncIterator[ShardedService]:
    """Run every shard of a fleet while the context is open. opened: the store of each, by name.

    Raises: ChannelsMoved, and what `running` raises.
    """
    moved: tuple[MovedChannel, ...] = ()
    async with AsyncExitStack() as held:
        logs = {
            name: await _started(held, shards, name, opened[name], run) for name in shards.all_names
        }
        moved = tuple(chain.from_iterable(_moved(shards, log) for log in logs.values()))
        if not moved:
            async with _telling(shards, logs, clock) as telling:
                yield ShardedService(shards, logs, telling)
    if moved:
        raise ChannelsMoved(moved)  # After all that was started has ended, so that it comes alone.


async def _started(
    held: AsyncExitStack, shards: ShardMap, name: str, opened: OpenedStore, run: Run
) -> ShardLog:
    place = ShardPlace(shards, name)
    end = await end_of(opened.queries)
    service = await held.enter_async_context(run(opened.store, place))
    # Since the service runs nothing was awaited, so its state is what the store has.
    log = ShardLog(place, service, opened.queries, end)
    held.enter_context(service.following(log.take))
    return log


@asynccontextmanager
async def _telling(
    shards: ShardMap, logs: Mapping[str, ShardLog], clock: Clock
) -> AsyncIterator[Telling]:
    telling = Telling(shards, logs, clock)
    for log in logs.values():
        for fleet in log.service.fleets_in_force():
            telling.note_edges(fleet)
    await telling.tell_enrolled(telling.unheard())
    async with anyio.create_task_group() as tasks:
        for log in logs.values():
            tasks.start_soon(telling.run, log)
        yield telling
        tasks.cancel_scope.cancel()


def _moved(shards: ShardMap, log: ShardLog) -> Iterator[MovedChannel]:
    for channel in log.service.moved_channels():
        yield MovedChannel(channel, log.name, shards.shard_of(channel))
