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
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_control_plane.engine import artefact_intake
from nixfleet_control_plane.engine import engine as control_plane_engine
from nixfleet_control_plane.messages import key_ring
from nixfleet_control_plane.releases import scan
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


def forgets_nonces_with_the_clock_set_back(patch: pytest.MonkeyPatch) -> None:
    """A second whose nonces were forgotten is not closed, so a clock that is set back opens it again."""

    def careless(self: Any, second: int) -> None:
        for old in [created for created in self._by_second if created < second]:
            self._count -= len(self._by_second.pop(old))

    patch.setattr(NonceMemory, "_forget_before", careless)


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


def turns_a_lost_answer_into_a_used_token(patch: pytest.MonkeyPatch) -> None:
    """A host that repeats an enrollment whose answer was lost is told that its token was used."""
    patch.setattr(control_plane_engine, "is_repeated", lambda *_: False)


def asks_only_once_whether_it_is_known(patch: pytest.MonkeyPatch) -> None:
    """A host whose control plane lost its database does not enroll again."""
    patch.setattr(EnrollmentWorker, "note_not_known", lambda _: None)


def gives_up_when_it_may_not_enroll(patch: pytest.MonkeyPatch) -> None:
    """An enrollment that was refused is not tried again."""
    is_done = EnrollmentWorker._is_done

    def resigned(self: Any) -> Any:
        yield from is_done(self)
        return True

    patch.setattr(EnrollmentWorker, "_is_done", resigned)


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


def reads_a_release_once(patch: pytest.MonkeyPatch) -> None:
    """A file of a release that was half exchanged is not read again when the rest is there."""
    scan_all = scan.ReleaseScanner._verify_all

    def hasty(self: Any, files: Any, now: datetime) -> Any:
        if self._failures:
            return self._verified, self._failures
        return scan_all(self, files, now)

    patch.setattr(scan.ReleaseScanner, "_verify_all", hasty)


# How workers retry.


def waits_as_long_as_it_is_told(patch: pytest.MonkeyPatch) -> None:
    """One answer with a Retry-After of years silences a worker."""
    patch.setattr(backoff, "RETRY_AFTER_SECONDS_MAX", 1e12)


def waits_twice_as_long_each_time(patch: pytest.MonkeyPatch) -> None:
    """The wait between two tries has no limit."""
    patch.setattr(backoff, "LAST_SECONDS", 1e12)


def waits_for_an_answer_in_milliseconds(patch: pytest.MonkeyPatch) -> None:
    """The time-out of a poll is a thousand times too long."""
    seconds_max = answers.poll_seconds_max
    patch.setattr(answers, "poll_seconds_max", lambda wait: 1000 * seconds_max(wait))


def insists_once(patch: pytest.MonkeyPatch) -> None:
    """An input that must not be lost is dropped when the journal cannot be written."""

    def resigned(self: Any, input: Any) -> Any:
        reply = yield from self.try_once(input)
        if reply is None:
            yield from self._backoff.pause()
        return reply

    patch.setattr(RetryingPost, "insist", resigned)


PLANTED_AT_EDGES: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        forgets_a_nonce_when_it_was_used,
        forgets_nonces_with_the_clock_set_back,
        forgets_nonces_in_a_restart,
        takes_requests_from_the_future,
        takes_requests_of_the_last_hour,
        opens_the_first_second_too_early,
        believes_the_key_id,
        takes_an_altered_body,
        lets_a_token_be_used_twice,
        takes_a_token_for_another_key,
        keeps_revoked_hosts_that_enrolled,
        turns_a_lost_answer_into_a_used_token,
        asks_only_once_whether_it_is_known,
        gives_up_when_it_may_not_enroll,
        takes_an_older_list,
        takes_an_older_manifest,
        reads_a_release_once,
        waits_as_long_as_it_is_told,
        waits_twice_as_long_each_time,
        waits_for_an_answer_in_milliseconds,
        insists_once,
    )
}
