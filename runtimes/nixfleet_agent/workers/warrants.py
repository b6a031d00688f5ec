"""Verifies the warrants that come with the answer to a heartbeat, and hands them to the engine. Sans I/O."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from nixfleet_agent.messages.inputs import WarrantOffered, WarrantRefused
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.refusals import Refusals
from nixfleet_agent.workers.steps import Work
from nixfleet_proto.signing import VerifyError
from nixfleet_proto.signing.warrant import WarrantUnverified, verify_warrant
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_proto.trust import TrustRoot


class WarrantIntake:
    """The way of warrants into the engine. trust: returns the keys that are trusted now."""

    def __init__(
        self,
        trust: Callable[[], TrustRoot],
        now: Callable[[], datetime],
        post: RetryingPost,
        refusals: Refusals,
        log: logging.Logger,
    ) -> None:
        self._trust = trust
        self._now = now
        self._post = post
        self._refusals = refusals
        self._log = log
        self._refused: dict[str, str] = {}

    def take(self, warrants: Sequence[SignedWarrant]) -> Work:
        """Offer each warrant to the engine; note, and log once, why one is not obeyed."""
        refused: dict[str, str] = {}
        for signed in warrants:
            try:
                verified = verify_warrant(signed, self._trust(), self._now())
            except (WarrantUnverified, VerifyError) as error:
                refused[signed.warrant.rollout_id] = str(error)
                continue
            reply = yield from self._post.insist(WarrantOffered(verified))
            if isinstance(reply, WarrantRefused):
                refused[reply.rollout_id] = reply.reason
        for rollout_id, reason in refused.items():
            if self._refused.get(rollout_id) != reason:
                self._log.error("not obeying a warrant for %s: %s", rollout_id, reason)
        self._refused = refused
        self._refusals.warrants_refused(refused)
