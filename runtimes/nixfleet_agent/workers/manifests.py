"""Where workers get manifests: fetched, or cached, and verified at every use. Sans I/O."""

import logging
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from typing import TypeAlias

from nixfleet_agent.workers.steps import (
    CacheManifest,
    FetchManifest,
    PruneCachedManifests,
    ReadCachedManifest,
    Wait,
    Wakeup,
    Work,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import VerifyError, verify_manifest
from nixfleet_proto.trust import TrustRoot, Verified
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.transport import TransportFailed

Verifying: TypeAlias = Generator[
    FetchManifest | ReadCachedManifest | CacheManifest, object, Verified[RolloutManifest]
]


class ManifestSource:
    """The manifests of the agent on `hostname`. trust: returns the keys that are trusted now."""

    def __init__(
        self,
        hostname: str,
        trust: Callable[[], TrustRoot],
        now: Callable[[], datetime],
        freshness_window_minutes: int | None,
        log: logging.Logger,
    ) -> None:
        self._hostname = hostname
        self._trust = trust
        self._now = now
        self._freshness_window_minutes = freshness_window_minutes
        self._log = log
        self._to_keep: tuple[str, ...] = ()
        self._pruning = Wakeup()

    def keep_only(self, rollout_ids: Iterable[str]) -> None:
        """Have `run` remove every other rollout from the cache."""
        self._to_keep = tuple(rollout_ids)
        self._pruning.set()

    def run(self) -> Work:
        """Prune the cache as `keep_only` asks."""
        while True:
            yield from Wait(None, self._pruning)
            self._pruning.clear()
            yield from PruneCachedManifests(self._to_keep)

    def verified(self, rollout_id: RolloutId) -> Verifying:
        """Return the verified manifest of `rollout_id`: the control plane's, or the cached one if it has none.

        A fetched manifest that does not verify is an error; a cached one does not replace it.
        Raises: TransportFailed (also when neither has one), VerifyError.
        """
        try:
            fetched = yield from FetchManifest(rollout_id)
            if fetched is None:
                raise TransportFailed(f"the control plane has no manifest of {rollout_id}")
        except TransportFailed as error:
            cached = self._usable(rollout_id, (yield from ReadCachedManifest(rollout_id)))
            if cached is None or cached.value.target_of(self._hostname) is None:
                # One from before this host joined the rollout says nothing about it: a later one has to be fetched.
                raise
            self._log.info("using the cached manifest of %s: %s", rollout_id, error)
            return cached
        manifest = self._verified(rollout_id, fetched)
        yield from CacheManifest(rollout_id, fetched)
        return manifest

    def _usable(
        self, rollout_id: RolloutId, cached: SignedArtefact | None
    ) -> Verified[RolloutManifest] | None:
        if cached is None:
            return None
        try:
            return self._verified(rollout_id, cached)
        except VerifyError as error:
            self._log.warning("the cached manifest of %s is not used: %s", rollout_id, error)
            return None

    def _verified(
        self, rollout_id: RolloutId, artefact: SignedArtefact
    ) -> Verified[RolloutManifest]:
        return verify_manifest(
            artefact,
            self._trust(),
            self._now(),
            freshness_window_minutes=self._freshness_window_minutes,
            expected_rollout_id=rollout_id,
        )
