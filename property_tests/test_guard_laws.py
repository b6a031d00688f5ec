"""Laws of guards: what holds for any guards and anything that judges say, in any order."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.guards import (
    APPROVALS,
    BAKE,
    Approvals,
    Check,
    Comparison,
    Counting,
    Quorum,
    WaveGuards,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.guards.states import (
    GuardState,
    is_news,
    next_guards,
    quorum_state,
)
from nixfleet_state_machine.planner.passing_time import due_by_time, next_time
from nixfleet_state_machine.planner.progress import due_rollout_events
from nixfleet_state_machine.rollout.event import GuardsOpened, Verdict, WaveAdvanced, WaveBroken
from nixfleet_state_machine.rollout.guard_tally import GuardTally, Outcome, unjudged
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    RolloutRecord,
    RolloutState,
    Standing,
)
from nixfleet_testing.strategies.guards import OPERATORS, approvals, checks, wave_guards
from tests.planner.builders import NOW, host_of, rollout_of, terms_of, view_of

SAID = st.lists(
    st.tuples(st.sampled_from(OPERATORS), st.sampled_from((Outcome.PASS, Outcome.FAIL))), max_size=6
)
OUTCOMES = st.lists(st.sampled_from(tuple(Outcome)), max_size=8)
TERMS = terms_of(waves=(("a",), ("b",)))
ROLLOUT = TERMS.rollout_id


def _state(quorum: Quorum, said: Sequence[tuple[str, Outcome]], guard: str) -> GuardState:
    tally: GuardTally | None = None
    for judge, outcome in said:
        tally = (tally or unjudged(1, guard, NOW)).after(judge, outcome, "", "", NOW)
    return quorum_state(quorum, tally)


@given(asked=approvals(), said=SAID, data=st.data())
def test_the_order_of_approvals_does_not_matter(
    asked: Approvals, said: list[tuple[str, Outcome]], data: st.DataObject
) -> None:
    """Whoever came first, it comes to the same."""
    other = data.draw(st.permutations(said))
    assert _state(asked.quorum, said, APPROVALS) is _state(asked.quorum, other, APPROVALS)


@given(asked=approvals(), said=SAID)
def test_approvals_said_twice_are_said_once(
    asked: Approvals, said: list[tuple[str, Outcome]]
) -> None:
    """Nobody is two operators."""
    assert _state(asked.quorum, said, APPROVALS) is _state(asked.quorum, said * 2, APPROVALS)


@given(asked=approvals(), said=SAID)
def test_a_denial_ends_it(asked: Approvals, said: list[tuple[str, Outcome]]) -> None:
    """At any place among any approvals, and nothing else does."""
    is_denied = any(outcome is Outcome.FAIL for _, outcome in said)
    is_broken = _state(asked.quorum, said, APPROVALS) is GuardState.BROKEN
    assert is_broken is is_denied


@given(asked=approvals(), said=SAID)
def test_nothing_passes_without_as_many_operators_as_are_asked(
    asked: Approvals, said: list[tuple[str, Outcome]]
) -> None:
    """Those who are named, and each of them once."""
    named = {judge for judge, outcome in said if outcome is Outcome.PASS} & {*asked.names}
    if _state(asked.quorum, said, APPROVALS) is GuardState.SATISFIED:
        assert len(named) >= asked.count


@given(check=checks(), outcomes=OUTCOMES)
def test_a_check_passes_by_its_last_answers_alone(check: Check, outcomes: list[Outcome]) -> None:
    """As many in a row as are asked; without evidence, or by silence, never."""
    said = [(check.judge, outcome) for outcome in outcomes if outcome is not Outcome.WAIVED]
    if _state(check.quorum, said, check.name) is GuardState.SATISFIED:
        latest = [outcome for _, outcome in said[-check.passes :]]
        assert latest == [Outcome.PASS] * check.passes
        fails = sum(outcome is Outcome.FAIL for _, outcome in said)
        assert fails <= check.failures


@given(check=checks(), outcomes=OUTCOMES)
def test_what_is_no_news_changes_nothing_that_is_decided(
    check: Check, outcomes: list[Outcome]
) -> None:
    """A log without the answers that are dropped leads to the same decisions."""
    whole: GuardTally | None = None
    dropped: GuardTally | None = None
    for outcome in outcomes:
        if outcome is Outcome.WAIVED:
            continue
        if is_news(check.quorum, dropped, outcome):
            before = dropped or unjudged(1, check.name, NOW)
            dropped = before.after(check.judge, outcome, "", "", NOW)
        before = whole or unjudged(1, check.name, NOW)
        whole = before.after(check.judge, outcome, "", "", NOW)
        state = quorum_state(check.quorum, dropped)
        assert state is quorum_state(check.quorum, whole)
        if state is GuardState.BROKEN:
            return  # The rollout is halted, and no judge is heard any more.


@given(quorum=st.builds(Quorum, st.just(OPERATORS), st.integers(1, 3), st.sampled_from(Counting)))
def test_a_quorum_is_open_without_a_verdict(quorum: Quorum) -> None:
    """No data is no pass."""
    assert quorum_state(quorum, None) is GuardState.OPEN


def _verdicts(guards: WaveGuards) -> st.SearchStrategy[list[Verdict]]:
    """What may be said of these guards of the first wave, by judges of any kind."""
    names = st.sampled_from(guards.names or (BAKE,))
    return st.lists(
        st.builds(
            Verdict,
            st.just(ROLLOUT),
            st.integers(0, 1),
            names,
            st.sampled_from((*OPERATORS, "time", "prometheus")),
            st.sampled_from(Outcome),
            st.just("as seen"),
            st.just(NOW),
        ),
        max_size=8,
    )


@given(guards=wave_guards(), minutes=st.integers(0, 60), data=st.data())
def test_a_wave_begins_exactly_when_all_its_guards_let_it(
    guards: WaveGuards, minutes: int, data: st.DataObject
) -> None:
    """Whatever was said and however long it takes: the first wave begins, breaks, or waits, and never two of these."""
    terms = evolve(TERMS, wave_guards=(guards, WaveGuards()))
    record = evolve(rollout_of(terms), state=RolloutState.OPENING, current_wave=BEFORE_FIRST_WAVE)
    if not guards.is_declared:
        record = evolve(record, current_wave=0)
    view = view_of(terms)
    view.set_rollout(record)

    def settle(record: RolloutRecord) -> RolloutRecord:
        view.set_rollout(record)
        for _ in range(4):
            for event in due_rollout_events(view, ROLLOUT, NOW):
                record, _ = step_rollout(record, event, NOW)
                view.set_rollout(record)
        assert due_rollout_events(view, ROLLOUT, NOW) == ()
        return record

    record = settle(record)
    for verdict in data.draw(_verdicts(guards)):
        before = next_guards(record, terms)
        record, _ = step_rollout(record, verdict, NOW)
        after = next_guards(record, terms)
        record = settle(record)
        if before is not None and after is not None and not record.state.is_halted:
            assert (record.current_wave == 0) is after.may_begin
    later = NOW + timedelta(minutes=minutes)
    at = next_time(view)
    over = [e for e in due_by_time(view, later, lambda _: NOW) if isinstance(e, Verdict)]
    assert bool(over) is (at is not None and at <= later)
    for verdict in over:
        record = settle(step_rollout(record, verdict, later)[0])
    assert not [e for e in due_by_time(view, later, lambda _: NOW) if isinstance(e, Verdict)]


@given(
    guards=wave_guards(),
    standing=st.sampled_from(Standing),
    is_cleared=st.booleans(),
    data=st.data(),
)
def test_a_rollout_is_terminal_only_after_each_guarded_wave_began(
    guards: WaveGuards, standing: Standing, is_cleared: bool, data: st.DataObject
) -> None:
    """Also if no host of the wave is waited for: excused, skipped, left, or let be done without anybody."""
    terms = evolve(TERMS, wave_guards=(WaveGuards(), guards))
    record = evolve(
        rollout_of(terms),
        state=RolloutState.ACTIVE,
        standings=FrozenMap({} if standing is Standing.COUNTED else {"b": standing}),
        cleared_waves=(1,) if is_cleared else (),
    )
    view = view_of(terms)
    view.set_host(host_of(terms, "a", HostState.CONVERGED))
    view.set_rollout(record)
    for verdict in (None, *data.draw(_verdicts(guards))):
        if verdict is not None:
            record, _ = step_rollout(record, verdict, NOW)
            view.set_rollout(record)
        while events := due_rollout_events(view, ROLLOUT, NOW):
            for event in events:
                record, _ = step_rollout(record, event, NOW)
                view.set_rollout(record)
        if record.state is RolloutState.TERMINAL:
            assert record.current_wave == 1
        # Who waits for nobody ends as soon as the guards let it.
        is_done = not standing.is_counted and (is_cleared or not standing.is_absent)
        if is_done and record.current_wave == 1:
            assert record.state is RolloutState.TERMINAL


@given(guards=wave_guards(), data=st.data())
def test_a_halted_rollout_hears_no_judge_and_a_cleared_one_asks_anew(
    guards: WaveGuards, data: st.DataObject
) -> None:
    """No verdict that came before counts after a clearance, and none is noted while it is halted."""
    opened = evolve(
        rollout_of(TERMS),
        state=RolloutState.OPENING,
        current_wave=BEFORE_FIRST_WAVE,
        guarded_since=NOW,
    )
    halted, _ = step_rollout(opened, WaveBroken(ROLLOUT, 0, 0, 0, 0, NOW, "denied"), NOW)
    for verdict in data.draw(_verdicts(guards)):
        after, effects = step_rollout(halted, verdict, NOW)
        assert (after, effects) == (halted, ())


@given(said=SAID)
def test_a_wave_that_began_forgets_what_was_said_of_it(said: list[tuple[str, Outcome]]) -> None:
    """The record does not grow with the waves; what was said of later ones stays."""
    record = evolve(rollout_of(TERMS), current_wave=0, guarded_since=NOW)
    for wave in (1, 2):
        for judge, outcome in said:
            verdict = Verdict(ROLLOUT, wave, APPROVALS, judge, outcome, "", NOW)
            record, _ = step_rollout(record, verdict, NOW)
    record, _ = step_rollout(record, WaveAdvanced(ROLLOUT, 0, 1, NOW), NOW)
    again, _ = step_rollout(record, GuardsOpened(ROLLOUT, 1, NOW), NOW)

    assert {tally.wave for tally in record.guard_tallies} <= {2}
    assert record.guarded_since is None
    assert again == record


@given(
    number=st.decimals(-1000, 1000, places=3),
    threshold=st.decimals(-1000, 1000, places=3),
)
def test_a_comparison_and_its_opposite_never_agree(number: Decimal, threshold: Decimal) -> None:
    """Of each pair exactly one holds, for any numbers."""
    for one, other in (("<", ">="), (">", "<="), ("==", "!=")):
        held = Comparison.parse(f"{one} {threshold}")
        opposite = Comparison.parse(f"{other} {threshold}")
        assert held is not None
        assert opposite is not None
        assert held.holds(number) is not opposite.holds(number)
