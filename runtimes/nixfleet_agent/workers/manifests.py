"""Manifests of rollouts: fetched, or kept from before, and verified at every use. Nothing else gets past here."""

import logging
from collections.abc import Iterable

import anyio
import anyio.to_thread

from nixfleet_agent.network.manifest_cache import ManifestCache
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, verify_manifest
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.transport import Transport, TransportFailed

_log = logging.getLogger(__name__)


class ManifestSource:
    """Where the workers of one agent have their manifests from."""

    def __init__(
        self,
        transport: Transport,
        cache: ManifestCache,
        trust: TrustRoot,
        clock: Clock,
        freshness_window_minutes: int,
    ) -> None:
        self._transport = transport
        self._cache = cache
        self._trust = trust
        self._clock = clock
        self._freshness_window_minutes = freshness_window_minutes
        self._to_keep: tuple[str, ...] = ()
        self._woken = anyio.Event()

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        """Let the cache forget every other rollout, soon."""
        self._to_keep = tuple(rollout_ids)
        self._woken.set()

    async def run(self) -> None:
        """Carry out what `keep_only` asked for, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken = anyio.Event()
            await anyio.to_thread.run_sync(self._cache.keep_only, self._to_keep)

    async def verified(self, rollout_id: RolloutId) -> Verified[RolloutManifest]:
        """Return the verified manifest of `rollout_id`: the control plane's, or the one kept if it has none to give.

        One that is fetched and does not verify is not made up for by one that is kept: it is said.
        Raises: TransportFailed (also when neither has one), VerifyError.
        """
        try:
            fetched = await self._fetched(rollout_id)
        except TransportFailed as error:
            kept = await anyio.to_thread.run_sync(self._kept, rollout_id)
            if kept is None:
                raise
            _log.info("using the manifest of %s that was kept: %s", rollout_id, error)
            return kept
        manifest = self._verified(rollout_id, fetched)
        await anyio.to_thread.run_sync(self._cache.put, rollout_id, fetched)
        return manifest

    async def _fetched(self, rollout_id: RolloutId) -> SignedArtefact:
        artefact = await self._transport.fetch_manifest(rollout_id)
        if artefact is None:
            raise TransportFailed(f"the control plane has no manifest of {rollout_id}")
        return artefact

    def _kept(self, rollout_id: RolloutId) -> Verified[RolloutManifest] | None:
        artefact = self._cache.get(rollout_id)
        if artefact is None:
            return None
        try:
            return self._verified(rollout_id, artefact)
        except VerifyError as error:
            _log.warning("the manifest of %s that was kept is not used: %s", rollout_id, error)
            return None

    def _verified(
        self, rollout_id: RolloutId, artefact: SignedArtefact
    ) -> Verified[RolloutManifest]:
        return verify_manifest(
            artefact,
            self._trust,
            self._clock.now(),
            freshness_window_minutes=self._freshness_window_minutes,
            expected_rollout_id=rollout_id,
        )
