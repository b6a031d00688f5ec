"""What a host asks, when its rollouts are in several shards: a host that changed its channel has records in both.

Source: docs/spec/shards.md, Hosting.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, groupby

import anyio
from attrs import evolve

from nixfleet_control_plane.hosting.shard_log import ShardLog
from nixfleet_control_plane.messages.inputs import Explanation
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_runtime.transport import Heartbeat, HeartbeatReply
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap

_NEVER = datetime.min.replace(tzinfo=UTC)


def in_runs(
    envelopes: tuple[AgentEventEnvelope, ...],
    service_of: Callable[[str], ControlPlaneService],
) -> Iterator[tuple[ControlPlaneService, tuple[AgentEventEnvelope, ...]]]:
    """Yield the events in order, those of one shard that follow each other together. No event: one empty run."""
    if not envelopes:
        yield service_of(""), ()
    for service, run in groupby(envelopes, lambda each: service_of(each.rollout_id)):
        yield service, tuple(run)


async def next_dispatch(
    services: Sequence[ControlPlaneService],
    hostname: str,
    wait_seconds: float,
    until_gone: Callable[[], Awaitable[None]],
) -> Dispatch | None:
    """Return the host's queued dispatch in any shard, waiting for one; of several that of the newest manifest."""
    at_once = [await service.next_dispatch(hostname, 0) for service in services]
    found = [
        (_signed_at(service, dispatch), place, dispatch)
        for place, (service, dispatch) in enumerate(zip(services, at_once, strict=True))
        if dispatch is not None
    ]
    if found:
        return max(found)[2]
    if wait_seconds <= 0:
        return None
    came: list[Dispatch] = []
    async with anyio.create_task_group() as tasks:

        async def wait(service: ControlPlaneService) -> None:
            dispatch = await service.next_dispatch(hostname, wait_seconds)
            if dispatch is not None:
                came.append(dispatch)
            if dispatch is not None or service.is_closing:
                tasks.cancel_scope.cancel()

        async def leave_when_gone() -> None:
            await until_gone()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as waits:
            tasks.start_soon(leave_when_gone)
            for service in services:
                waits.start_soon(wait, service)
        tasks.cancel_scope.cancel()
    return came[0] if came else None


def _signed_at(service: ControlPlaneService, dispatch: Dispatch) -> datetime:
    loaded = service.manifest_in_use(RolloutId(dispatch.rollout_id))
    at = None if loaded is None else loaded.manifest.meta.signed_at
    return _NEVER if at is None else at


async def compare(
    shards: ShardMap, logs: Mapping[str, ShardLog], hostname: str, heartbeat: Heartbeat
) -> HeartbeatReply:
    """Return what each side lacks, over all shards that know the host. Each is told of its own rollouts alone."""
    seqs: dict[str, dict[str, int]] = {}
    for rollout_id, seq in heartbeat.last_seqs.items():
        seqs.setdefault(_shard_of(shards, rollout_id), {})[rollout_id] = seq
    replies: list[HeartbeatReply] = []
    for name, log in logs.items():
        own = seqs.get(name, {})
        if name == MAIN or own or log.service.knows(hostname):
            part = evolve(heartbeat, last_seqs=FrozenMap(own))
            replies.append(await log.service.compare(hostname, part))
    releases = [each.release for each in replies if each.release is not None]
    return HeartbeatReply(
        replies[0].received_at,
        tuple(chain.from_iterable(each.bootstrap_rollouts for each in replies)),
        tuple(chain.from_iterable(each.replay_from for each in replies)),
        max(releases, key=lambda each: each.signed_at, default=None),
        tuple(sorted(chain.from_iterable(each.resting for each in replies))),
        tuple(chain.from_iterable(each.warrants for each in replies)),
    )


def _shard_of(shards: ShardMap, rollout_id: str) -> str:
    try:
        return shards.shard_of(RolloutId(rollout_id).channel)
    except InvalidRolloutId:
        return MAIN


def merged_explanations(shards: ShardMap, found: Mapping[str, Explanation]) -> Explanation:
    """Return one explanation of those of each shard, by name.

    A host outside of all rollouts is so for the reason that the shard of its channel gives.
    """
    early = tuple(chain.from_iterable(each.early for each in found.values()))
    statuses = {name: it.status for name, it in found.items() if it.status is not None}
    if not statuses:
        known = {host for each in found.values() for host in each.known}
        return Explanation(None, early, tuple(sorted(known)))
    rollouts = sorted(
        chain.from_iterable(status.rollouts for status in statuses.values()),
        key=lambda each: each.rollout_id,
    )
    own = (
        status
        for name, status in statuses.items()
        if status.channel is not None and shards.shard_of(status.channel) == name
    )
    status = next(own, next(iter(statuses.values())))
    left = tuple(chain.from_iterable(each.left for each in statuses.values()))
    outside = None if rollouts else status.outside
    return Explanation(evolve(status, rollouts=tuple(rollouts), outside=outside, left=left), early)
