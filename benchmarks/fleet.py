"""A control plane with a fleet that waits to be heard: every host was dispatched and says nothing yet.

Real signatures, the real service, SQLite with `synchronous=FULL` on the disk of the working tree.
"""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path

import anyio

from benchmarks.life import POLICY, ROLLOUT, SOAK_SECONDS, TARGET, life
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import FlushRecords, ManifestsUpdated
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.codec import encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetChannel, FleetHost, FleetResolved, Meta, Selector, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.signing import (
    SigningKey,
    artefact_hash,
    sign_artefact,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.kernel.clock import SystemClock

CLOCK = SystemClock()
FRESHNESS_MINUTES = 60


def host_names(count: int) -> tuple[str, ...]:
    """Return so many host names."""
    return tuple(f"web-{index:06d}" for index in range(count))


def release(
    hosts: tuple[str, ...],
    signed_at: datetime | None = None,
    rollout_id: RolloutId = ROLLOUT,
    *,
    waves: int = 1,
    max_in_flight: int | None = None,
) -> ManifestsUpdated:
    """Return a signed and verified release of one channel. signed_at: `None` for now.

    waves: of the same size. max_in_flight: of a budget of all hosts; `None`: there is none.
    """
    wave_of = {host: place * waves // len(hosts) for place, host in enumerate(hosts)}
    in_wave = {wave: [host for host in hosts if wave_of[host] == wave] for wave in range(waves)}
    key, now = SigningKey.generate(), signed_at or CLOCK.now()
    trust = TrustRoot(KeySlot(key.public_key))
    channel = rollout_id.channel
    fleet = FleetResolved(
        hosts=FrozenMap({host: FleetHost(channel, closure_hash=TARGET) for host in hosts}),
        channels=FrozenMap({channel: FleetChannel("at-once")}),
        rollout_policies=FrozenMap({"at-once": POLICY}),
        waves=FrozenMap(
            {channel: tuple(Wave(tuple(its), SOAK_SECONDS // 60) for its in in_wave.values())}
        ),
        meta=Meta(now),
    )
    fleet_body = encode_fleet(fleet)
    manifest = RolloutManifest(
        channel=channel,
        channel_ref=rollout_id.channel_ref,
        display_name=rollout_id,
        fleet_resolved_hash=artefact_hash(fleet_body),
        host_set=tuple(HostAssignment(host, TARGET, wave_of[host]) for host in hosts),
        meta=Meta(now),
        rollout_policy=POLICY,
        wave_soak_minutes=(SOAK_SECONDS // 60,) * waves,
        disruption_budgets=()
        if max_in_flight is None
        else (ManifestBudget(Selector(all=True), hosts, max_in_flight),),
    )
    signed = sign_artefact(fleet_body, key), sign_artefact(encode_manifest(manifest), key)
    return ManifestsUpdated(
        verify_fleet(signed[0], trust, now, freshness_window_minutes=FRESHNESS_MINUTES),
        (
            verify_manifest(
                signed[1],
                trust,
                now,
                freshness_window_minutes=FRESHNESS_MINUTES,
                expected_rollout_id=rollout_id,
            ),
        ),
    )


def prepare_database(path: Path, hosts: tuple[str, ...]) -> None:
    """Write a database in which the rollout is open and every host was dispatched, at the time of the facts."""
    store = SqliteStore(path)
    engine = ControlPlaneEngine(load_state(store))
    from benchmarks.life import T0

    for input in (release(hosts), FlushRecords(len(hosts) + 1)):
        commit = engine.handle(input, T0)
        store.commit(commit.writes)
        engine.settle()
    store.close()


@asynccontextmanager
async def control_plane(path: Path) -> AsyncIterator[ControlPlaneService]:
    """Run the service on a prepared database."""
    async with control_plane_on(ThreadedStore(SqliteStore(path))) as service:
        yield service


@asynccontextmanager
async def control_plane_on(store: Store) -> AsyncIterator[ControlPlaneService]:
    """Run the service on a prepared store, and close it at the end."""
    try:
        async with running(store, CLOCK) as service:
            with tuned_collector():
                yield service
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


@contextmanager
def tuned_collector() -> Iterator[None]:
    """As the control-plane process has it: what is loaded is not looked at again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def envelopes(hosts: tuple[str, ...]) -> dict[str, tuple[AgentEventEnvelope, ...]]:
    """Return what each host has to say, in envelopes."""
    facts = life()
    return {
        host: tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in facts) for host in hosts
    }
