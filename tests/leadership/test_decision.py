"""What a control plane on a shared store decides: one step at a time."""

import pytest

from nixfleet_control_plane.leadership.decision import (
    BeginTerm,
    CaughtUp,
    Drain,
    Drained,
    Ended,
    EndTerm,
    Fenced,
    Following,
    HandingOver,
    HandOver,
    Leading,
    LogLost,
    Looked,
    NotRenewed,
    NotTaken,
    Rang,
    Renew,
    Renewed,
    Replaced,
    SessionBroke,
    StopAsked,
    Take,
    Taken,
    TakingOver,
    TermEnded,
    TimePassed,
    decide,
    may_answer,
    next_due,
)
from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms

TERMS = LeaseTerms(3.0)
NOW = 1000.0
HELD = LeaseSeen(4, "a", "https://a", 2.5, 17)
OVER = LeaseSeen(4, "a", "https://a", 0.0, 17)
ABANDONED = LeaseSeen(4, "a", "https://a", 2.5, 17, is_abandoned=True)
LEADING = Leading(5, NOW)


@pytest.mark.parametrize("free", [OVER, ABANDONED])
def test_a_warm_standby_takes_a_lease_that_is_over_or_abandoned(free: LeaseSeen) -> None:
    """It names what it saw, so that of several one succeeds."""
    following = Following(is_warm=True)
    assert decide(following, Looked(free), NOW, TERMS) == (TakingOver(free), (Take(free),))


def test_a_lease_that_is_held_is_not_taken() -> None:
    """Also by a warm standby."""
    following = Following(is_warm=True)
    assert decide(following, Looked(HELD), NOW, TERMS) == (Following(is_warm=True, seen=HELD), ())


def test_a_standby_that_has_not_read_the_log_takes_nothing() -> None:
    """It would lead on what it does not know; once it has read it, it looks again."""
    following, orders = decide(Following(), Looked(OVER), NOW, TERMS)
    assert orders == ()
    following, _ = decide(following, CaughtUp(), NOW, TERMS)
    assert decide(following, Looked(OVER), NOW, TERMS)[1] == (Take(OVER),)


def test_a_standby_whose_log_was_lost_is_warm_no_more() -> None:
    """What it has in memory is of another history."""
    assert decide(Following(is_warm=True), LogLost(), NOW, TERMS) == (Following(), ())


def test_the_doorbell_lets_a_standby_look_more_often_until_another_one_leads() -> None:
    """Sessions of a killed process end one after the other."""
    rung, _ = decide(Following(is_warm=True, seen=HELD), Rang(), NOW, TERMS)
    assert next_due(rung, NOW, TERMS) == NOW + TERMS.rung_look_seconds
    same, _ = decide(rung, Looked(HELD), NOW, TERMS)
    assert next_due(same, NOW, TERMS) == NOW + TERMS.rung_look_seconds
    assert next_due(same, NOW + 3, TERMS) == NOW + 3 + TERMS.look_seconds
    another, _ = decide(rung, Looked(LeaseSeen(5, "b", "", 3.0, 17)), NOW, TERMS)
    assert next_due(another, NOW, TERMS) == NOW + TERMS.look_seconds


def test_who_has_taken_the_lease_leads_from_when_it_asked() -> None:
    """An answer may have taken long; the lease ran meanwhile."""
    leading, orders = decide(TakingOver(OVER), Taken(5, NOW - 2), NOW, TERMS)
    assert (leading, orders) == (Leading(5, NOW - 2), (BeginTerm(5),))
    assert may_answer(leading, NOW + 0.69, TERMS)
    assert not may_answer(leading, NOW + 0.71, TERMS)


@pytest.mark.parametrize("missed", [NotTaken(), Replaced()])
def test_who_was_too_late_follows_on(missed: NotTaken | Replaced) -> None:
    """With what it has read."""
    assert decide(TakingOver(OVER), missed, NOW, TERMS) == (Following(is_warm=True), ())


def test_a_stop_while_the_lease_is_asked_for_waits_for_the_answer() -> None:
    """A lease that was got is given back."""
    taking, orders = decide(TakingOver(OVER), StopAsked(), NOW, TERMS)
    assert orders == ()
    assert decide(taking, NotTaken(), NOW, TERMS) == (Ended(), ())
    assert decide(taking, Taken(5, NOW), NOW, TERMS) == (HandingOver(LEADING), (Drain(),))


def test_a_leader_renews_when_a_third_of_the_lease_is_over_once_at_a_time() -> None:
    """A commit renews it too, so a busy leader sends no renewals."""
    assert next_due(LEADING, NOW, TERMS) == NOW + 1
    assert decide(LEADING, TimePassed(), NOW + 0.9, TERMS) == (LEADING, ())
    renewing, orders = decide(LEADING, TimePassed(), NOW + 1, TERMS)
    assert orders == (Renew(),)
    assert next_due(renewing, NOW + 1, TERMS) is None
    assert decide(renewing, TimePassed(), NOW + 2, TERMS)[1] == ()
    renewed, _ = decide(renewing, Renewed(NOW + 1), NOW + 2, TERMS)
    assert renewed == Leading(5, NOW + 1)


def test_an_older_answer_shortens_no_lease() -> None:
    """Answers may overtake each other."""
    assert decide(LEADING, Renewed(NOW - 1), NOW, TERMS)[0] == LEADING


def test_a_renewal_without_an_answer_is_sent_again_after_a_pause() -> None:
    """A store that refuses connections is not asked without end."""
    renewing, _ = decide(LEADING, TimePassed(), NOW + 1, TERMS)
    failed, _ = decide(renewing, NotRenewed(), NOW + 1.5, TERMS)
    assert next_due(failed, NOW + 1.5, TERMS) == NOW + 1.5 + TERMS.look_seconds
    assert decide(failed, TimePassed(), NOW + 1.75, TERMS)[1] == (Renew(),)


def test_a_session_that_breaks_ends_answers_until_a_later_renewal() -> None:
    """The store may have ended it because it believes this process gone. What was sent before proves nothing."""
    doubting, _ = decide(LEADING, SessionBroke(), NOW + 0.5, TERMS)
    assert not may_answer(doubting, NOW + 0.5, TERMS)
    assert next_due(doubting, NOW + 0.5, TERMS) == NOW + 0.5
    earlier, _ = decide(doubting, Renewed(NOW + 0.4), NOW + 0.6, TERMS)
    assert not may_answer(earlier, NOW + 0.6, TERMS)
    later, _ = decide(doubting, Renewed(NOW + 0.6), NOW + 0.7, TERMS)
    assert may_answer(later, NOW + 0.7, TERMS)


def test_a_leader_that_was_replaced_drops_everything_and_follows_anew() -> None:
    """What is in its memory may never have become durable."""
    fenced, orders = decide(LEADING, Replaced(), NOW, TERMS)
    assert (fenced, orders) == (Fenced(5), (EndTerm(),))
    assert not may_answer(fenced, NOW, TERMS)
    assert decide(fenced, TermEnded(), NOW, TERMS) == (Following(), ())
    assert decide(fenced, StopAsked(), NOW, TERMS) == (Ended(), ())


def test_a_leader_that_is_stopped_answers_what_it_accepted_and_then_gives_the_lease_away() -> None:
    """Until then it holds it, and renews it."""
    handing, orders = decide(LEADING, StopAsked(), NOW, TERMS)
    assert orders == (Drain(),)
    assert may_answer(handing, NOW + 1, TERMS)
    handing, orders = decide(handing, TimePassed(), NOW + 1, TERMS)
    assert orders == (Renew(),)
    assert decide(handing, Drained(), NOW + 1, TERMS) == (Ended(), (HandOver(),))


def test_a_leader_that_is_replaced_while_it_stops_gives_nothing_away() -> None:
    """It has nothing to give."""
    assert decide(HandingOver(LEADING), Replaced(), NOW, TERMS) == (Ended(), (EndTerm(),))


def test_a_standby_that_is_stopped_ends_at_once() -> None:
    """It has nothing to give."""
    assert decide(Following(is_warm=True), StopAsked(), NOW, TERMS) == (Ended(), ())
    assert next_due(Ended(), NOW, TERMS) is None
    assert not may_answer(Ended(), NOW, TERMS)
