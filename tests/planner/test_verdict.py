"""The verdict of a wave, and the event that follows when a host of it counts for less."""

from itertools import product

import pytest
from attrs import evolve

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import (
    WaveVerdict,
    verdict_of,
    wave_broken,
    wave_verdict,
    waves_without,
)
from nixfleet_state_machine.rollout.event import RolloutTerminal, WaveAdvanced, WaveBroken
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.planner.builders import NOW, host_of, put, rollout_of, terms_of, view_of

GOING, DONE, BROKEN = WaveVerdict.GOING, WaveVerdict.DONE, WaveVerdict.BROKEN
HOSTS = ("web-1", "web-2", "web-3")
TALLIES = [
    (total, succeeded, failed)
    for total, succeeded, failed in product(range(13), repeat=3)
    if succeeded + failed <= total
]


@pytest.mark.parametrize(
    ("total", "succeeded", "failed", "allowed", "absent", "verdict"),
    [
        (3, 2, 0, 0, 0, GOING),
        (3, 3, 0, 0, 0, DONE),
        (3, 0, 1, 0, 0, BROKEN),
        (3, 1, 1, 1, 0, GOING),
        (3, 2, 1, 1, 0, DONE),
        (3, 1, 2, 1, 0, BROKEN),
        (3, 0, 3, 3, 0, BROKEN),
        (2, 2, 0, 0, 1, DONE),
        (0, 0, 0, 0, 3, BROKEN),
        (1, 0, 1, 1, 2, BROKEN),
        (0, 0, 0, 0, 0, DONE),
    ],
)
def test_the_verdict_of_a_wave(
    total: int, succeeded: int, failed: int, allowed: int, absent: int, verdict: WaveVerdict
) -> None:
    """Too many failures break it, who is missing is waited for, and with no success there is no evidence."""
    assert wave_verdict(total, succeeded, failed, allowed, absent) is verdict


def test_where_no_host_may_fail_the_verdict_is_the_first_failure_or_everybody() -> None:
    """Of all tallies of up to 12 hosts: broken is a failure, and done is everybody."""
    for total, succeeded, failed in TALLIES:
        verdict = wave_verdict(total, succeeded, failed, allowed=0)
        assert (verdict is BROKEN) is (failed > 0)
        assert (verdict is DONE) is (succeeded == total)


def test_more_tolerance_never_breaks_a_wave_earlier() -> None:
    """Of all tallies of up to 12 hosts: what is not broken stays so when more hosts may fail."""
    for (total, succeeded, failed), allowed, absent in product(TALLIES, range(4), range(2)):
        verdict = wave_verdict(total, succeeded, failed, allowed, absent)
        more = wave_verdict(total, succeeded, failed, allowed + 1, absent)
        assert more is not BROKEN or verdict is BROKEN
        assert verdict is BROKEN or more is verdict


def test_a_wave_in_which_nobody_is_open_does_not_go_on() -> None:
    """It is done or broken: no wave waits for nobody."""
    for (total, succeeded, failed), allowed, absent in product(TALLIES, range(4), range(2)):
        if succeeded + failed == total:
            assert wave_verdict(total, succeeded, failed, allowed, absent) is not GOING


def _view(allowed: int, *failed: str, **standings: Standing) -> tuple[FleetView, RolloutTerms]:
    terms = terms_of(waves=(HOSTS, ("db-1",)), allowed=(allowed, 0))
    view = view_of(terms)
    for name in failed:
        view.set_host(evolve(host_of(terms, name, HostState.FAILED), failed_at=NOW))
    named = {name.replace("_", "-"): standing for name, standing in standings.items()}
    view.set_rollout(rollout_of(terms, standings=named))
    return view, terms


def test_a_failure_within_the_tolerance_breaks_nothing() -> None:
    """The wave goes on."""
    view, terms = _view(1, "web-1")

    assert wave_broken(view, terms.rollout_id, "web-1", NOW) is None
    assert verdict_of(view, terms.rollout_id, 0) is GOING


def test_a_failure_beyond_the_tolerance_breaks_the_wave() -> None:
    """The event has the numbers."""
    view, terms = _view(1, "web-1", "web-2", web_3=Standing.AWAY)

    assert wave_broken(view, terms.rollout_id, "web-2", NOW) == WaveBroken(
        terms.rollout_id, 0, failed=2, allowed=1, absent=1, at=NOW
    )


def test_a_failure_in_another_wave_breaks_only_that_one() -> None:
    """Asked for a host, its own wave is looked at."""
    view, terms = _view(1, "web-1", "web-2")

    assert wave_broken(view, terms.rollout_id, "db-1", NOW) is None


def test_a_wave_from_which_everybody_stays_away_is_broken() -> None:
    """A release that nobody took is not proven, and no later wave begins on it."""
    view, terms = _view(3, web_1=Standing.AWAY, web_2=Standing.AWAY, web_3=Standing.SKIPPED)

    assert wave_broken(view, terms.rollout_id, "web-3", NOW) is not None
    assert due_rollout_events(view, terms.rollout_id, NOW) == ()


def test_a_wave_that_is_excused_as_a_whole_is_done() -> None:
    """An operator said so."""
    excused = dict.fromkeys(("web_1", "web_2", "web_3"), Standing.EXCUSED)
    view, terms = _view(0, **excused)

    assert wave_broken(view, terms.rollout_id, "web-3", NOW) is None
    assert due_rollout_events(view, terms.rollout_id, NOW) == (
        WaveAdvanced(terms.rollout_id, 0, 1, NOW),
    )


def test_a_host_in_no_wave_breaks_none() -> None:
    """Nothing is tolerated of it, and nothing broken."""
    terms = terms_of(waves=(("web-1",),), unstaged=("web-9",))
    view = view_of(terms)
    view.set_host(host_of(terms, "web-9", HostState.FAILED))

    assert wave_broken(view, terms.rollout_id, "web-9", NOW) is None


@pytest.mark.parametrize(
    "state", [each for each in RolloutState if each.value not in ("Active", "Converging")]
)
def test_a_rollout_that_does_not_go_on_is_not_broken(state: RolloutState) -> None:
    """What is halted is halted once, and what is over stays over."""
    view, terms = _view(0, "web-1")
    view.set_rollout(rollout_of(terms, state))

    assert wave_broken(view, terms.rollout_id, "web-1", NOW) is None


def test_a_rollout_with_tolerated_failures_is_promoted_and_ends() -> None:
    """Nobody waits for a host that may fail and did."""
    view, terms = _view(1, "web-1")
    put(view, terms, web_2=HostState.CONVERGED, web_3=HostState.CONVERGED)
    assert due_rollout_events(view, terms.rollout_id, NOW) == (
        WaveAdvanced(terms.rollout_id, 0, 1, NOW),
    )
    put(view, terms, db_1=HostState.CONVERGED)
    view.set_rollout(rollout_of(terms, RolloutState.CONVERGING, wave=1))

    assert due_rollout_events(view, terms.rollout_id, NOW) == (
        RolloutTerminal(terms.rollout_id, NOW),
    )


# --- waves of which nobody comes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standings", "excused", "waves"),
    [
        ({"a": Standing.AWAY, "b": Standing.SKIPPED}, (), (0,)),
        ({"a": Standing.AWAY}, (), ()),
        ({"a": Standing.AWAY}, ("b",), (0,)),
        ({"a": Standing.AWAY}, ("a",), ()),
        ({"a": Standing.AWAY, "b": Standing.AWAY}, ("a",), (0,)),
        ({"a": Standing.AWAY, "b": Standing.AWAY}, ("a", "b"), ()),
        ({"a": Standing.EXCUSED, "b": Standing.AWAY}, ("a",), (0,)),
        ({"a": Standing.EXCUSED, "b": Standing.EXCUSED}, (), ()),
        ({"a": Standing.AWAY, "b": Standing.LATE}, (), (0,)),
        ({"a": Standing.AWAY, "b": Standing.LAPSED}, (), ()),
        ({"a": Standing.AWAY, "b": Standing.LAPSED}, ("b",), (0,)),
        (dict.fromkeys("abcd", Standing.AWAY), (), (0, 1)),
        (dict.fromkeys("abc", Standing.AWAY), ("d", "none"), (0, 1)),
    ],
)
def test_a_wave_of_which_nobody_comes_is_named_once_the_others_are_excused(
    standings: dict[str, Standing], excused: tuple[str, ...], waves: tuple[int, ...]
) -> None:
    """Some host of it is absent, and none counts. A wave whose hosts are all excused is done."""
    terms = terms_of(waves=(("a", "b"), ("c", "d")), unstaged=("none",))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, standings=standings))

    assert waves_without(view, terms.rollout_id, excused) == waves
