"""Bugs planted in the policy: tolerances, standings, deadlines and attempts.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every second seed has a policy.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.engine import engine, rollout_course
from nixfleet_proto.policy import Tolerance
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner import deadlines, passing_time, verdict
from nixfleet_state_machine.planner.index import rollout_view
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import WaveVerdict, wave_verdict
from nixfleet_state_machine.rollout.state import Standing
from tests.simulation.planted import Plant


def _with_verdict(patch: pytest.MonkeyPatch, judged: Any) -> None:
    patch.setattr(verdict, "wave_verdict", judged)


def breaks_a_wave_at_its_tolerance(patch: pytest.MonkeyPatch) -> None:
    """As many failures as are allowed halt the rollout."""

    def strict(total: int, succeeded: int, failed: int, allowed: int, absent: int = 0) -> Any:
        if allowed and failed >= allowed:
            return WaveVerdict.BROKEN
        return wave_verdict(total, succeeded, failed, allowed, absent)

    _with_verdict(patch, strict)


def takes_a_wave_of_absent_hosts_for_done(patch: pytest.MonkeyPatch) -> None:
    """Nobody came, and the next wave begins."""

    def trusting(total: int, succeeded: int, failed: int, allowed: int, absent: int = 0) -> Any:
        return wave_verdict(total, succeeded, failed, allowed, 0)

    _with_verdict(patch, trusting)


def rounds_shares_up(patch: pytest.MonkeyPatch) -> None:
    """A third of two hosts is one host."""

    def generous(self: Any, base: int) -> int:
        limits = [] if self.max_failures is None else [self.max_failures]
        if self.max_failure_pct is not None:
            limits.append(-(-base * self.max_failure_pct // 100))
        return min(limits, default=0)

    patch.setattr(Tolerance, "allowed", generous)


def prefers_the_tolerance_of_the_policy(patch: pytest.MonkeyPatch) -> None:
    """What a wave declares itself is read and means nothing."""
    allowed = RolloutTerms.allowed_failures

    def uniform(self: Any, wave: int | None) -> int:
        return min((allowed(self, each) for each in range(self.last_wave + 1)), default=0)

    patch.setattr(RolloutTerms, "allowed_failures", uniform)


def _with_counts(patch: pytest.MonkeyPatch, change: Any) -> None:
    counts = rollout_view._counts
    patch.setattr(rollout_view, "_counts", lambda *facts: change(counts(*facts), *facts))


def frees_the_slot_of_a_failed_host(patch: pytest.MonkeyPatch) -> None:
    """A tolerated host is down, and another one may go down beside it."""

    def hasty(counts: Any, state: HostState | None, needs_dispatch: bool, *facts: Any) -> Any:
        is_down = state is HostState.FAILED and not counts.is_handed_out
        return counts._replace(is_in_flight=counts.is_in_flight and not is_down)

    _with_counts(patch, hasty)


def never_gives_a_host_back(patch: pytest.MonkeyPatch) -> None:
    """A host that was silent once is not served, although it was heard of."""
    patch.setattr(rollout_course, "heard_again", lambda *_: None)


def lapses_hosts_without_grace(patch: pytest.MonkeyPatch) -> None:
    """The control plane does not wait for the host's own word."""
    patch.setattr(deadlines, "GRACE", timedelta(0))


def takes_every_deadline_for_a_failure(patch: pytest.MonkeyPatch) -> None:
    """A host that was to be skipped counts as failed."""
    lapsed = passing_time._lapsed

    def harsh(lapses: Any, now: Any) -> Any:
        for event in lapsed(lapses, now):
            yield evolve(event, standing=Standing.LAPSED)

    patch.setattr(passing_time, "_lapsed", harsh)


def tries_again_at_once(patch: pytest.MonkeyPatch) -> None:
    """There is no back-off."""
    patch.setattr(deadlines, "backoff_of", lambda *_: timedelta(0))


def tries_once_too_often(patch: pytest.MonkeyPatch) -> None:
    """An attempt is ordered beyond those that were signed."""
    retry = deadlines._retry

    def stubborn(terms: Any, rollout: Any, record: Any) -> Any:
        more = evolve(terms.retry, attempts=terms.retry.attempts + 1)
        return retry(evolve(terms, retry=more), rollout, record)

    patch.setattr(deadlines, "_retry", stubborn)


def waits_for_evidence_that_was_waived(patch: pytest.MonkeyPatch) -> None:
    """An operator cleared a wave of which nobody came, and the rollout stays there."""
    patch.setattr(engine, "waves_without", lambda *_: ())


PLANTED_IN_POLICY: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        breaks_a_wave_at_its_tolerance,
        takes_a_wave_of_absent_hosts_for_done,
        rounds_shares_up,
        prefers_the_tolerance_of_the_policy,
        frees_the_slot_of_a_failed_host,
        never_gives_a_host_back,
        lapses_hosts_without_grace,
        takes_every_deadline_for_a_failure,
        tries_again_at_once,
        tries_once_too_often,
        waits_for_evidence_that_was_waived,
    )
}

FOUND_BY_IN_POLICY: Final[Mapping[str, int]] = {
    "breaks_a_wave_at_its_tolerance": 2,
    "takes_a_wave_of_absent_hosts_for_done": 2,
    "rounds_shares_up": 10,
    "prefers_the_tolerance_of_the_policy": 2,
    "frees_the_slot_of_a_failed_host": 2,
    "never_gives_a_host_back": 4,
    "lapses_hosts_without_grace": 2,
    "takes_every_deadline_for_a_failure": 2,
    "tries_again_at_once": 2,
    "tries_once_too_often": 6,
    "waits_for_evidence_that_was_waived": 86,
}
"""As `planted.FOUND_BY`."""
