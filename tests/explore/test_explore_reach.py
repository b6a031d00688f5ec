"""What happens in the worlds that are explored: a law that is never put to the test proves nothing."""

import re

from nixfleet_testing.explore import Bounds, ReducerSet
from nixfleet_testing.explore.space import Space
from tests.explore.walking import moves_reached


def test_operators_and_failures_lead_hosts_and_rollouts_through_every_state() -> None:
    """Every move of a host is made somewhere, and every one of a rollout that has no successor.

    A rollout is Reverted by way of Failed alone: who reverts has failed before, or is excused by then.
    """
    done = _done_in(Bounds(hosts=2, waves=1, pause=True, clear=True, deferral=True))
    assert {each for each in done if each.startswith("HOST goes")} == {
        "HOST goes from Pending to Activating",
        "HOST goes from Activating to Deferred",
        "HOST goes from Activating to Failed",
        "HOST goes from Activating to Soaking",
        "HOST goes from Deferred to Failed",
        "HOST goes from Deferred to Soaking",
        "HOST goes from Soaking to Converged",
        "HOST goes from Soaking to Failed",
        "HOST goes from Failed to Reverted",
    }
    assert {each for each in done if each.startswith("stable@one goes")} == {
        "stable@one goes from Opening to Active",
        "stable@one goes from Active to Converging",
        "stable@one goes from Active to Failed",
        "stable@one goes from Converging to Failed",
        "stable@one goes from Converging to Terminal",
        "stable@one goes from Failed to Active",
        "stable@one goes from Failed to Reverted",
        "stable@one goes from Reverted to Active",
    }


def test_dispatches_are_withdrawn_for_every_reason_there_is() -> None:
    """A pause, a halt and a quarantine each come upon a dispatch that is still in the queue."""
    done = _done_in(Bounds(hosts=2, waves=1, pause=True, clear=True))
    assert {each for each in done if "withdrawn" in each} == {
        "the dispatch of HOST is withdrawn: operator-hold",
        "the dispatch of HOST is withdrawn: quarantine",
        "the dispatch of HOST is withdrawn: rollout-halted",
    }


def test_a_successor_comes_upon_a_rollout_in_every_state() -> None:
    """Whatever a rollout is when the next one is published, it is superseded."""
    done = _done_in(Bounds(hosts=1, waves=1, releases=3, probe_runs=0, on_the_way=1, pause=True))
    assert {each for each in done if each.endswith("to Superseded")} >= {
        "stable@one goes from Active to Superseded",
        "stable@one goes from Converging to Superseded",
        "stable@one goes from Terminal to Superseded",
        "stable@one goes from Failed to Superseded",
        "stable@one goes from Reverted to Superseded",
        "stable@two goes from Opening to Superseded",
    }


def _done_in(bounds: Bounds) -> set[str]:
    """Return all that the control plane did, in words that are the same for every host."""
    space = Space(bounds, ReducerSet(), symmetric=True)
    moves = moves_reached(space, symmetric=True)
    return {
        re.sub(r"web-\d", "HOST", did)
        for before, after in moves
        for did in space.did(before, after)
    }
