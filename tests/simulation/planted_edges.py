"""Bugs planted at the edges: request signatures, enrollment, the release directory, and how workers retry.

As in `planted`: each is a function that plants one; its sentence says what goes wrong.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_agent.network import answers
from nixfleet_agent.workers import backoff
from nixfleet_agent.workers.enrollment import EnrollmentWorker
from nixfleet_control_plane.engine import artefact_intake
from nixfleet_control_plane.engine import engine as control_plane_engine
from nixfleet_control_plane.messages import key_ring
from nixfleet_proto.signing import fingerprint_of
from nixfleet_proto.trust import TrustedKey
from nixfleet_runtime.http.signing.nonces import NonceMemory
from nixfleet_runtime.http.signing.refusal import SignedBeforeStart, SkewedClock
from nixfleet_runtime.releases import acceptance
from nixfleet_simulation.nodes import signed_requests
from tests.simulation.planted import Plant

# Request signatures.


def forgets_a_nonce_when_it_was_used(patch: pytest.MonkeyPatch) -> None:
    """A request that comes a second time is carried out a second time."""
    take = NonceMemory.take

    def forgetful(self: Any, key_id: str, nonce: str, created: int, now: datetime) -> None:
        take(self, key_id, nonce, created, now)
        self._by_second[created].clear()

    patch.setattr(NonceMemory, "take", forgetful)


def forgets_nonces_in_a_restart(patch: pytest.MonkeyPatch) -> None:
    """What the process before carried out is carried out again."""
    init = NonceMemory.__init__

    def trusting(self: Any, window_seconds: int, started_at: datetime, **more: Any) -> None:
        init(self, window_seconds, started_at - timedelta(seconds=2 * window_seconds), **more)

    patch.setattr(NonceMemory, "__init__", trusting)


def takes_requests_from_the_future(patch: pytest.MonkeyPatch) -> None:
    """The window is compared in one direction only."""

    def one_sided(self: Any, key_id: str, created: int, now: datetime) -> None:
        skew = created - int(now.timestamp())
        if -skew > self.window_seconds:
            raise SkewedClock(key_id, skew, self.window_seconds)

    patch.setattr(NonceMemory, "require_fresh", one_sided)


def takes_requests_of_the_last_hour(patch: pytest.MonkeyPatch) -> None:
    """The window is taken for minutes."""
    require_fresh = NonceMemory.require_fresh

    def patient(self: Any, key_id: str, created: int, now: datetime) -> None:
        try:
            require_fresh(self, key_id, created, now)
        except SkewedClock as error:
            if abs(error.skew_seconds) > 60 * self.window_seconds:
                raise

    patch.setattr(NonceMemory, "require_fresh", patient)


def opens_the_first_second_too_early(patch: pytest.MonkeyPatch) -> None:
    """What was signed in the last second before a start is good."""
    require_fresh = NonceMemory.require_fresh

    def early(self: Any, key_id: str, created: int, now: datetime) -> None:
        try:
            require_fresh(self, key_id, created, now)
        except SignedBeforeStart as error:
            if (error.good_from - error.created).total_seconds() > 1:
                raise

    patch.setattr(NonceMemory, "require_fresh", early)


def believes_the_key_id(patch: pytest.MonkeyPatch) -> None:
    """Whoever signs as a host is that host."""
    patch.setattr(signed_requests, "is_hashed_by", lambda *_: True)


def takes_an_altered_body(patch: pytest.MonkeyPatch) -> None:
    """The digest is signed, and compared with nothing."""
    patch.setattr(signed_requests, "require_digest", lambda *_: None)


# Enrollment.


def lets_a_token_be_used_twice(patch: pytest.MonkeyPatch) -> None:
    """A nonce that was used is good again, as long as it is listed."""
    objection = key_ring._nonce_objection
    patch.setattr(
        key_ring,
        "_nonce_objection",
        lambda token, nonces, _, now: objection(token, nonces, (), now),
    )


def takes_a_token_for_another_key(patch: pytest.MonkeyPatch) -> None:
    """A token is good for whoever brings it."""

    def bearer(objection: Any) -> Any:
        def judged(request: Any, *arguments: Any, **more: Any) -> Any:
            key = TrustedKey(request.public_key)
            mine = evolve(request.token.token, expected_pubkey_fingerprint=fingerprint_of(key))
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(key_ring, "verify_token", lambda *_: mine)
                inner.setattr(key_ring, "require_token_signed", lambda *_: None)
                return objection(
                    evolve(request, token=evolve(request.token, token=mine)), *arguments, **more
                )

        return judged

    for name in ("token_objection", "enrollment_objection"):
        patch.setattr(control_plane_engine, name, bearer(getattr(control_plane_engine, name)))


def keeps_revoked_hosts_that_enrolled(patch: pytest.MonkeyPatch) -> None:
    """A revocation takes the declared key away, and not the enrolled one."""
    with_host = key_ring.KeyRing._key_of_host

    def lenient(self: Any, hostname: str) -> Any:
        host = self.enrolled.get(hostname)
        return with_host(self, hostname) if host is None else host.public_key

    patch.setattr(key_ring.KeyRing, "_key_of_host", lenient)


def asks_only_once_whether_it_is_known(patch: pytest.MonkeyPatch) -> None:
    """A host whose control plane lost its database does not enroll again."""
    patch.setattr(EnrollmentWorker, "note_not_known", lambda _: None)


# The release directory.


def takes_an_older_list(patch: pytest.MonkeyPatch) -> None:
    """A list of revocations that was signed earlier replaces the one in force."""
    patch.setattr(artefact_intake, "list_objection", lambda *_: None)


def takes_an_older_manifest(patch: pytest.MonkeyPatch) -> None:
    """A manifest that was signed earlier replaces the one in force for its channel."""
    conflict = acceptance._conflict
    patch.setattr(
        acceptance,
        "_conflict",
        lambda manifest, terms, precedent: conflict(
            manifest, terms, evolve(precedent, signed_at=None)
        ),
    )


# How workers retry.


def waits_as_long_as_it_is_told(patch: pytest.MonkeyPatch) -> None:
    """One answer with a Retry-After of years silences a worker."""
    patch.setattr(backoff, "RETRY_AFTER_SECONDS_MAX", 1e12)


def waits_for_an_answer_in_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """The time-out of a poll is a thousand times too long."""
    seconds_max = answers.poll_seconds_max
    patch.setattr(answers, "poll_seconds_max", lambda wait: 1000 * seconds_max(wait))


PLANTED_AT_EDGES: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        forgets_a_nonce_when_it_was_used,
        forgets_nonces_in_a_restart,
        takes_requests_from_the_future,
        takes_requests_of_the_last_hour,
        opens_the_first_second_too_early,
        believes_the_key_id,
        takes_an_altered_body,
        lets_a_token_be_used_twice,
        takes_a_token_for_another_key,
        keeps_revoked_hosts_that_enrolled,
        asks_only_once_whether_it_is_known,
        takes_an_older_list,
        takes_an_older_manifest,
        waits_as_long_as_it_is_told,
        waits_for_an_answer_in_milliseconds,
    )
}

FOUND_BY_AT_EDGES: Final[Mapping[str, int]] = {
    "forgets_a_nonce_when_it_was_used": 1,
    "forgets_nonces_in_a_restart": 1,
    "takes_requests_from_the_future": 1,
    "takes_requests_of_the_last_hour": 1,
    "believes_the_key_id": 1,
    "takes_an_altered_body": 3,
    "lets_a_token_be_used_twice": 2,
    "takes_a_token_for_another_key": 1,
    "keeps_revoked_hosts_that_enrolled": 1,
    "asks_only_once_whether_it_is_known": 1,
    "takes_an_older_list": 1,
    "takes_an_older_manifest": 1,
    "waits_as_long_as_it_is_told": 13,
    "waits_for_an_answer_in_milliseconds": 1,
    "opens_the_first_second_too_early": 6,
}
"""As `planted.FOUND_BY`."""
