"""Refusals of both machines say what, where and why; and still do after they were pickled."""

import pickle
from datetime import UTC, datetime

import pytest

from nixfleet_state_machine import (
    IllegalForRolloutState,
    IllegalForState,
    InvariantViolation,
    SeqRegression,
    SupersessionExpected,
    WrongRollout,
)
from nixfleet_state_machine.host.errors import ConvergenceRule
from tests.builders import (
    active_rollout,
    all_done,
    converged,
    dispatch_ack,
    pending_host,
    soaking_host,
    successor_opened,
)

AT = datetime(2026, 5, 16, 2, 0, tzinfo=UTC)

# Made within the tests: what a module makes as it is imported, it makes once for all of them.
TOLD: list[tuple[type[Exception], tuple[object, ...], str]] = [
    (
        IllegalForState,
        (pending_host(), converged()),
        "Converged is not legal from Pending (rollout stable@a1b2, host web-01, seq 50)",
    ),
    (
        SeqRegression,
        (soaking_host(), dispatch_ack(seq=2)),
        "DispatchAck has seq 2, but 2 was already applied: expected a later one "
        "(rollout stable@a1b2, host web-01, seq 2)",
    ),
    (
        InvariantViolation,
        (soaking_host(), converged(), ConvergenceRule.CLOSURE_IS_TARGET, "red", "blue"),
        "Converged breaks rule closure-is-target: expected red, found blue "
        "(rollout stable@a1b2, host web-01, seq 50)",
    ),
    (
        IllegalForRolloutState,
        (active_rollout(), successor_opened()),
        "SuccessorOpened is not legal from Active (rollout stable@a1b2)",
    ),
    (
        WrongRollout,
        (active_rollout(), all_done()),
        f"RolloutTerminal is about another rollout than stable@a1b2: {all_done()}",
    ),
    (
        SupersessionExpected,
        (active_rollout(), "stable@c3d4", AT),
        "cannot open stable@c3d4: stable@a1b2 is still Active on channel stable; "
        "expected SuccessorOpened for it first",
    ),
]
REFUSALS = pytest.mark.parametrize(
    ("kind", "facts", "told"), TOLD, ids=[kind.__name__ for kind, _, _ in TOLD]
)


@REFUSALS
def test_a_refusal_says_what_was_expected_and_what_was_found(
    kind: type[Exception], facts: tuple[object, ...], told: str
) -> None:
    """The sentence names the event, the state and the place."""
    assert str(kind(*facts)) == told


@REFUSALS
def test_a_pickled_refusal_is_the_same(
    kind: type[Exception], facts: tuple[object, ...], told: str
) -> None:
    """A refusal that crosses to another process keeps its text and every attribute."""
    refusal = kind(*facts)
    arrived: object = pickle.loads(pickle.dumps(refusal))

    assert isinstance(arrived, kind)
    assert str(arrived) == told
    assert arrived.args == facts
    assert vars(arrived) == vars(refusal)


def test_a_refused_opening_carries_what_stood_in_the_way() -> None:
    """Who opens can supersede the live rollout and try again, at the same time."""
    refusal = SupersessionExpected(active_rollout(), "stable@c3d4", AT)

    assert (refusal.live, refusal.opening, refusal.at) == (active_rollout(), "stable@c3d4", AT)
