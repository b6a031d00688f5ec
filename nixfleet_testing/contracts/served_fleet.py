"""A control plane that runs behind the transport under test: one signed rollout of two hosts, in two waves.

What its store has is durable; a test can block the store, or make it full.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from nixfleet_control_plane.messages.inputs import ManifestsOutcome, ManifestsUpdated
from nixfleet_control_plane.messages.log_entry import FactReported
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import ControlPlaneService, running
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_control_plane.store.store import Snapshot, Store
from nixfleet_control_plane.store.threaded_store import ThreadedStore
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetChannel, FleetHost, FleetResolved, Meta, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import (
    SigningKey,
    artefact_hash,
    sign_artefact,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.kernel.clock import FakeClock
from nixfleet_testing.contracts.held_up import HoldsUp
from nixfleet_testing.contracts.histories import (
    CHANNEL,
    HOST,
    OTHER_HOST,
    POLICY,
    ROLLOUT,
    T0,
    TARGET,
)

SOAK_MINUTES = 5
FRESHNESS_MINUTES = 60


class GuardedStore(HoldsUp):
    """A store whose commits can be held up, or fail as on a full disk."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.is_full = False
        self._store = store

    async def load(self) -> Snapshot:
        """Return what was committed."""
        return await self._store.load()

    async def commit(self, writes: Sequence[Write]) -> None:
        """Make `writes` durable, once it is not blocked. Raises: OSError."""
        await self._passed()
        if self.is_full:
            raise OSError("no space left on device")
        await self._store.commit(writes)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class ServedFleet:
    """A control plane that runs, with what it is made of."""

    def __init__(
        self, service: ControlPlaneService, store: GuardedStore, database: Path, clock: FakeClock
    ) -> None:
        self.service = service
        self.store = store
        self.clock = clock
        self._database = database
        self._key = SigningKey.generate()
        self._trust = TrustRoot(KeySlot(self._key.public_key))

    async def publish(self) -> SignedArtefact:
        """Put the rollout in force: `HOST` is dispatched, `OTHER_HOST` waits for it. Return the manifest."""
        fleet_body = encode_fleet(_fleet())
        signed = sign_artefact(encode_manifest(_manifest(artefact_hash(fleet_body))), self._key)
        now = self.clock.now()
        update = ManifestsUpdated(
            verify_fleet(
                sign_artefact(fleet_body, self._key),
                self._trust,
                now,
                freshness_window_minutes=FRESHNESS_MINUTES,
            ),
            (
                verify_manifest(
                    signed,
                    self._trust,
                    now,
                    freshness_window_minutes=FRESHNESS_MINUTES,
                    expected_rollout_id=ROLLOUT,
                ),
            ),
        )
        assert await self.service.publish(update) == ManifestsOutcome((ROLLOUT,), ())
        return signed

    def durable_facts(self) -> list[tuple[str, AgentEvent]]:
        """Return the facts in the log, each with its host: what another process would read there now."""
        reader = open_for_reading(self._database)
        try:
            entries = [logged.entry for logged in log_entries(reader)]
        finally:
            reader.close()
        return [(entry.host, entry.fact) for entry in entries if isinstance(entry, FactReported)]


@asynccontextmanager
async def served_fleet(directory: Path) -> AsyncGenerator[ServedFleet]:
    """Run a control plane whose database is in `directory`, until the end of the context."""
    database = directory / "control-plane.sqlite"
    store = GuardedStore(ThreadedStore(SqliteStore(database)))
    clock = FakeClock(T0)
    try:
        async with running(store, clock) as service:
            try:
                yield ServedFleet(service, store, database, clock)
            finally:
                store.let_go()
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


def _fleet() -> FleetResolved:
    return FleetResolved(
        hosts=FrozenMap(
            {host: FleetHost(CHANNEL, closure_hash=TARGET) for host in (HOST, OTHER_HOST)}
        ),
        channels=FrozenMap({CHANNEL: FleetChannel("canary-first")}),
        rollout_policies=FrozenMap({"canary-first": POLICY}),
        waves=FrozenMap({CHANNEL: (Wave((HOST,), SOAK_MINUTES), Wave((OTHER_HOST,)))}),
        meta=Meta(T0),
    )


def _manifest(fleet_hash: str) -> RolloutManifest:
    return RolloutManifest(
        channel=CHANNEL,
        channel_ref=ROLLOUT.channel_ref,
        display_name=ROLLOUT,
        fleet_resolved_hash=fleet_hash,
        host_set=(HostAssignment(HOST, TARGET, 0), HostAssignment(OTHER_HOST, TARGET, 1)),
        meta=Meta(T0),
        rollout_policy=POLICY,
        wave_soak_minutes=(SOAK_MINUTES, 0),
    )
