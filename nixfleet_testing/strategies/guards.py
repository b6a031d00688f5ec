"""Guards of waves, what judges said of them, and how they stand. Few names, so that they meet."""

from decimal import Decimal
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_proto.steering.guards import (
    Approvals,
    Check,
    Comparison,
    Counting,
    Operator,
    Quorum,
    WaveGuards,
)
from nixfleet_state_machine.planner.guards.states import GuardedWave, GuardState, GuardStatus
from nixfleet_state_machine.rollout.guard_tally import GuardTally, Outcome
from nixfleet_testing.strategies.names import rollout_ids, times

OPERATORS = ("ada", "bob", "eve")


@cache
def approvals() -> SearchStrategy[Approvals]:
    names = st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=3, unique=True).map(tuple)
    return names.flatmap(
        lambda names: st.builds(Approvals, st.integers(1, len(names)), st.just(names))
    )


@cache
def checks(name: str = "errors") -> SearchStrategy[Check]:
    return st.builds(
        Check,
        name=st.just(name),
        judge=st.sampled_from(("prometheus", "probe")),
        query=st.just("sum(rate(errors[5m]))"),
        comparison=st.sampled_from(("< 0.01", '== "ready"')),
        passes=st.integers(1, 2),
        failures=st.integers(0, 1),
        inconclusive=st.none() | st.integers(0, 1),
        interval_seconds=st.sampled_from((60, 300)),
    )


@st.composite
def wave_guards(draw: st.DrawFn) -> WaveGuards:
    """Guards of a wave: none, one, or all of them; some waivable."""
    guards = WaveGuards(
        bake_minutes=draw(st.sampled_from((0, 30))),
        approvals=draw(st.none() | approvals()),
        checks=tuple(draw(st.lists(checks(), max_size=1))),
    )
    if not guards.names:
        return guards
    waivable = st.lists(st.sampled_from(guards.names), unique=True).map(tuple)
    return WaveGuards(guards.bake_minutes, guards.approvals, guards.checks, draw(waivable))


@cache
def quorums() -> SearchStrategy[Quorum]:
    return st.builds(
        Quorum,
        st.just(OPERATORS),
        st.integers(1, 3),
        st.sampled_from(Counting),
        st.integers(0, 1),
        st.none() | st.integers(0, 1),
    )


@cache
def comparisons() -> SearchStrategy[Comparison]:
    numbers = st.sampled_from((Decimal("0.01"), Decimal(5)))
    ordered = st.builds(Comparison, st.sampled_from(Operator), numbers)
    equal = st.sampled_from((Operator.EQUAL, Operator.OTHER))
    return ordered | st.builds(Comparison, equal, st.sampled_from(("ready", "broken", True)))


@cache
def operator_approvals() -> SearchStrategy[Approval]:
    return st.builds(
        Approval,
        rollout_ids(),
        st.integers(0, 3),
        st.sampled_from(("0" * 64, "f" * 64)),
        st.sampled_from(OPERATORS),
        st.sampled_from(Decision),
        st.just("looks good"),
        times(),
    )


@cache
def signed_approvals() -> SearchStrategy[SignedApproval]:
    return st.builds(SignedApproval, operator_approvals(), st.just("0" * 128))


@cache
def guard_tallies() -> SearchStrategy[GuardTally]:
    names = st.lists(st.sampled_from(OPERATORS), max_size=3, unique=True)
    return st.builds(
        GuardTally,
        wave=st.integers(0, 3),
        guard=st.sampled_from(("bake", "approvals", "errors")),
        outcome=st.sampled_from(Outcome),
        judge=st.sampled_from(OPERATORS),
        reason=st.just("as expected"),
        at=times(),
        passed_by=names.map(lambda given: tuple(sorted(given))),
        passes=st.integers(0, 3),
        failures=st.integers(0, 2),
        inconclusive=st.integers(0, 2),
        waived_by=st.none() | st.just("ada"),
    )


@cache
def guard_statuses() -> SearchStrategy[GuardStatus]:
    names = st.sampled_from(("bake", "approvals", "errors"))
    states = st.sampled_from(GuardState)
    return st.builds(GuardStatus, names, states, st.none() | guard_tallies(), st.none() | times())


@cache
def guarded_waves() -> SearchStrategy[GuardedWave]:
    guards = st.lists(guard_statuses(), min_size=1, max_size=2).map(tuple)
    return st.builds(GuardedWave, st.integers(0, 3), st.none() | times(), guards)
