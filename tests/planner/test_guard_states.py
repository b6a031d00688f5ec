"""How guards stand: by what was declared, and what the judges said."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import Approvals, Check, Counting, Quorum, WaveGuards
from nixfleet_state_machine.planner.guards.states import (
    GuardState,
    GuardStatus,
    next_guards,
    quorum_state,
)
from nixfleet_state_machine.planner.guards.words import guard_line
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import GuardsOpened, RolloutOpened, Verdict
from nixfleet_state_machine.rollout.guard_tally import GuardTally, Outcome, unjudged
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_testing.samples import AT, ROLLOUT

TWO_APPROVE = Approvals(2, ("ada", "bob", "eve"))
TWO_OF_THREE = Quorum(("ada", "bob", "eve"), 2, Counting.DISTINCT)
THREE_IN_A_ROW = Quorum(("prometheus",), 3, Counting.CONSECUTIVE, failures=1, inconclusive=1)
PASS, FAIL, UNCLEAR, WAIVED = (
    Outcome.PASS,
    Outcome.FAIL,
    Outcome.INCONCLUSIVE,
    Outcome.WAIVED,
)
CHECK = Check("errors", "prometheus", "rate", "< 0.01", passes=3)


def _tally(guard: str, *said: tuple[str, Outcome]) -> GuardTally:
    tally = unjudged(1, guard, AT)
    for judge, outcome in said:
        tally = tally.after(judge, outcome, "as seen", "", AT)
    return tally


def test_a_quorum_without_a_verdict_is_open() -> None:
    """No evidence never passes."""
    assert quorum_state(TWO_OF_THREE, None) is GuardState.OPEN


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ((("ada", PASS),), GuardState.OPEN),
        ((("ada", PASS), ("bob", PASS)), GuardState.SATISFIED),
        ((("ada", PASS), ("ada", PASS)), GuardState.OPEN),
        ((("ada", PASS), ("mallory", PASS)), GuardState.OPEN),
        ((("ada", PASS), ("bob", FAIL)), GuardState.BROKEN),
        ((("bob", FAIL), ("ada", PASS), ("eve", PASS)), GuardState.BROKEN),
        ((("eve", WAIVED),), GuardState.WAIVED),
    ],
)
def test_approvals_count_different_operators_that_are_named(
    said: tuple[tuple[str, Outcome], ...], state: GuardState
) -> None:
    """A second one of the same operator is none, one who is not named counts for nothing, and a denial ends it."""
    assert quorum_state(TWO_OF_THREE, _tally("approvals", *said)) is state


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ((PASS, PASS, PASS), GuardState.SATISFIED),
        ((PASS, PASS), GuardState.OPEN),
        ((PASS, PASS, FAIL, PASS), GuardState.OPEN),
        ((FAIL, PASS, PASS, PASS), GuardState.SATISFIED),
        ((FAIL, PASS, FAIL), GuardState.BROKEN),
        ((PASS, PASS, UNCLEAR, PASS), GuardState.OPEN),
        ((UNCLEAR, UNCLEAR), GuardState.BROKEN),
        ((UNCLEAR, PASS, UNCLEAR), GuardState.OPEN),
        ((UNCLEAR,), GuardState.OPEN),
    ],
)
def test_a_check_counts_its_passes_in_a_row(
    outcomes: tuple[Outcome, ...], state: GuardState
) -> None:
    """A fail and an answer that says nothing begin the row anew; more of either than declared break the wave."""
    said = [("prometheus", outcome) for outcome in outcomes]
    assert quorum_state(THREE_IN_A_ROW, _tally("errors", *said)) is state


def test_a_check_that_says_nothing_breaks_nothing_unless_it_is_declared() -> None:
    """It is asked again, and never passes by that."""
    patient = Quorum(("prometheus",), 1, Counting.CONSECUTIVE)
    silent = _tally("errors", *[("prometheus", UNCLEAR)] * 50)

    assert quorum_state(patient, silent) is GuardState.OPEN


def test_guards_are_asked_once_the_wave_before_is_done() -> None:
    """Then it is known when the bake is over."""
    guards = WaveGuards(30, Approvals(1, ("ada",)), (CHECK,))
    terms = RolloutTerms.build(ROLLOUT, {"web-01": "one"}, waves=[["web-01"]], guards=[guards])
    record = open_rollout(RolloutOpened(ROLLOUT, "stable", "a1b2", AT), 1, (), is_guarded=True)
    before = next_guards(record, terms)
    record, _ = step_rollout(record, GuardsOpened(ROLLOUT, 0, AT), AT)
    asked = next_guards(record, terms)

    assert before is not None
    assert (before.since, before.may_begin, before.guards[0].until) == (None, False, None)
    assert asked is not None
    assert [guard.name for guard in asked.guards] == ["bake", "approvals", "errors"]
    assert asked.guards[0].until == AT + timedelta(minutes=30)


def test_guards_that_are_satisfied_early_do_not_open_a_wave_that_is_not_due() -> None:
    """An approval may come before the wave before is done; the wave begins only after it."""
    guards = WaveGuards(approvals=Approvals(1, ("ada",)))
    terms = RolloutTerms.build(ROLLOUT, {"web-01": "one"}, waves=[["web-01"]], guards=[guards])
    record = open_rollout(RolloutOpened(ROLLOUT, "stable", "a1b2", AT), 1, (), is_guarded=True)
    approval = Verdict(ROLLOUT, 0, "approvals", "ada", PASS, "looks good", AT)
    record, _ = step_rollout(record, approval, AT)
    guarded = next_guards(record, terms)

    assert guarded is not None
    assert guarded.guards[0].state is GuardState.SATISFIED
    assert not guarded.may_begin


def test_a_wave_without_guards_has_none() -> None:
    """And neither has the one after the last."""
    terms = RolloutTerms.build(RolloutId("stable@a1b2"), {"web-01": "one"})
    record = open_rollout(RolloutOpened(ROLLOUT, "stable", "a1b2", AT), 1, ())

    assert next_guards(record, terms) is None


def test_approvals_are_a_quorum_of_different_operators() -> None:
    """The number and the names are those that were declared."""
    assert TWO_APPROVE.quorum == TWO_OF_THREE


def test_a_check_is_a_quorum_of_answers_in_a_row() -> None:
    """Every number is the one that was declared."""
    check = Check("errors", "prometheus", "rate", "< 0.01", 3, failures=1, inconclusive=1)

    assert check.quorum == THREE_IN_A_ROW


def _words(
    guards: WaveGuards, guard: str, *said: tuple[str, Outcome], author: str | None = None
) -> str:
    tally = _tally(guard, *said) if said else None
    status = GuardStatus(guard, quorum_state(guards.quorums[guard], tally), tally)
    return guard_line(status, guards, author)


@pytest.mark.parametrize(
    ("said", "author", "expected"),
    [
        ((), None, "0 of 2 approvals, waits for 2 of ada, bob, eve"),
        ((("ada", PASS),), None, "1 of 2 approvals: ada, waits for one of bob, eve"),
        ((("ada", PASS),), "eve", "1 of 2 approvals: ada, waits for one of bob"),
        ((("ada", PASS), ("eve", PASS)), None, "2 of 2 approvals: ada, eve"),
        ((("ada", FAIL),), None, "halted by approvals: fail by ada: as seen"),
    ],
)
def test_approvals_say_who_is_waited_for(
    said: tuple[tuple[str, Outcome], ...], author: str | None, expected: str
) -> None:
    """Not the author, who does not approve; and once it is denied, who did and why."""
    guards = WaveGuards(approvals=TWO_APPROVE)
    assert _words(guards, "approvals", *said, author=author) == expected


@pytest.mark.parametrize(
    ("inconclusive", "said", "expected"),
    [
        (None, (UNCLEAR, UNCLEAR), "0 of 3 passes, 2 inconclusive in a row"),
        (3, (PASS, UNCLEAR), "0 of 3 passes, 1 of 3 inconclusive in a row"),
        (3, (UNCLEAR, PASS), "1 of 3 passes"),
    ],
)
def test_a_check_says_how_often_it_was_inconclusive(
    inconclusive: int | None, said: tuple[Outcome, ...], expected: str
) -> None:
    """In a row, since only these count; and of how many, if that is declared."""
    check = evolve(CHECK, inconclusive=inconclusive)
    shown = _words(WaveGuards(checks=(check,)), "errors", *(("prometheus", it) for it in said))
    assert shown.startswith(f"check errors: {expected}; last ")


def test_approvals_that_cannot_be_reached_without_the_author_say_so() -> None:
    """There is no name that could be waited for, or too few."""
    guards = WaveGuards(approvals=Approvals(2, ("ada", "bob")))
    given = _words(guards, "approvals", ("bob", PASS), author="ada")
    assert given == "1 of 2 approvals: bob, and never more than 1: ada is the author"
    none = _words(guards, "approvals", author="ada")
    assert none == "0 of 2 approvals, and never more than 1: ada is the author"
