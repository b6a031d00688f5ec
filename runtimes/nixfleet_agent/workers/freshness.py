"""Notices that releases have stopped, or are withheld: when was the newest manifest signed that this host has seen?

A control plane cannot be believed about it, so what it says is newest is fetched and verified, now and then.
Source: docs/spec/trust.md, Freshness.
"""

import logging
from collections.abc import Callable, Generator
from datetime import datetime, timedelta

from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.steps import AgentStep
from nixfleet_proto.codec import format_time
from nixfleet_proto.freshness import declared_window, freshness_window
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing import VerifyError
from nixfleet_runtime.transport import ReleaseInForce, TransportFailed

BETWEEN_LOOKS = timedelta(minutes=30)


class FreshnessWatch:
    """The age of the newest manifest that was verified. limit_minutes: the receiver's own window, if it has one."""

    def __init__(
        self,
        manifests: ManifestSource,
        now: Callable[[], datetime],
        limit_minutes: int | None,
        log: logging.Logger,
    ) -> None:
        self._manifests = manifests
        self._now = now
        self._limit_minutes = limit_minutes
        self._log = log
        self._began_at = now()
        self._looked_at: datetime | None = None
        self._signed_at: datetime | None = None
        self._window_minutes = freshness_window(None, limit_minutes)
        self._warned = False

    def look(self, release: ReleaseInForce | None) -> Generator[AgentStep, object, None]:
        """Verify the release that the control plane says is in force, if it is newer; warn when all are old."""
        if release is not None and self._is_due(release):
            self._looked_at = self._now()
            yield from self._verify(release.rollout_id)
        age = self._now() - (self._signed_at or self._began_at)
        is_old = age.total_seconds() > self._window_minutes * 60
        if is_old and not self._warned:
            newest = (
                "none was verified since the agent started"
                if self._signed_at is None
                else f"the newest was signed {format_time(self._signed_at)}"
            )
            self._log.warning(
                "no fresh manifest for %d minutes (%s): releases have stopped or are withheld",
                age // timedelta(minutes=1),
                newest,
            )
        self._warned = is_old

    def _is_due(self, release: ReleaseInForce) -> bool:
        if self._signed_at is not None and release.signed_at <= self._signed_at:
            return False
        return self._looked_at is None or self._now() - self._looked_at >= BETWEEN_LOOKS

    def _verify(self, rollout_id: str) -> Generator[AgentStep, object, None]:
        try:
            manifest = yield from self._manifests.verified(RolloutId(rollout_id))
        except (VerifyError, InvalidRolloutId, TransportFailed) as error:
            self._log.info("the manifest of %s is not fresh: %s", rollout_id, error)
            return
        if self._signed_at is None or manifest.signed_at > self._signed_at:
            self._signed_at = manifest.signed_at
            self._window_minutes = freshness_window(
                declared_window(manifest.value), self._limit_minutes
            )
            self._log.info(
                "a fresh manifest: %s, signed %s", rollout_id, format_time(manifest.signed_at)
            )
