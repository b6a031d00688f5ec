"""The first difference between the stored views and the views that the log implies.

Only the tables that a commit touched are compared after it.
"""

from collections import Counter
from collections.abc import Mapping, Set

from nixfleet_simulation.judge.log.views import StoredViews
from nixfleet_simulation.judge.model.gates import Gates
from nixfleet_simulation.judge.model.host_model import Control
from nixfleet_simulation.judge.model.rollout_model import RolloutModel

_OF_DISPATCHES = frozenset({"PutDispatch", "RemoveDispatch"})
_OF_DEFERRALS = frozenset({"PutDeferral", "RemoveDeferral"})
_OF_BEGINNINGS = frozenset({"PutBeginning", "RemoveBeginning", "RemoveBeginnings"})
_OF_FAILURES = frozenset({"OpenProbeFailure", "ClearProbeFailure"})


def first_difference(
    views: StoredViews, gates: Gates, deferred: Mapping[tuple[str, str], str], head: int
) -> str | None:
    """Return the first difference in the tables touched since the last call; `gates` holds what the log implies."""
    touched = views.take_touched()
    if views.latest_seq > head:
        return f"a view came from row {views.latest_seq}, and the log ends at {head}"
    rollouts = gates.rollouts
    for rollout_id in views.rollouts if "PutRollout" in touched else ():
        problem = _rollout_differs(views, rollouts.get(rollout_id), rollout_id)
        if problem is not None:
            return problem
    if not touched.isdisjoint(_OF_DISPATCHES) and views.dispatches != _queued(rollouts):
        return _difference("dispatch_queue", _queued(rollouts), views.dispatches)
    if not touched.isdisjoint(_OF_DEFERRALS) and views.deferrals != deferred:
        expected, found = set(deferred.items()), set(views.deferrals.items())
        return _difference("deferrals", expected, found)
    if not touched.isdisjoint(_OF_FAILURES) and views.failing() != _failing(rollouts):
        return _difference("probe_failures", _failing(rollouts), views.failing())
    taken = Counter(budget.removeprefix("tags:") for budget, _, _ in views.beginnings)
    if not touched.isdisjoint(_OF_BEGINNINGS) and taken != gates.minutes.counts():
        return f"beginnings has {taken}, and {gates.minutes.counts()} take slots"
    return _scopes_differ(views, gates)


def _rollout_differs(views: StoredViews, model: RolloutModel | None, rollout_id: str) -> str | None:
    if model is None:
        return f"rollouts has {rollout_id}, which never opened"
    expected = model.due.state, model.due.wave, model.standings, model.attempts
    found = views.rollouts[rollout_id]
    if expected != found:
        return f"rollouts has {rollout_id} as {found}, and it is {expected}"
    return None


def _scopes_differ(views: StoredViews, gates: Gates) -> str | None:
    if views.holds != gates.holds.keys():
        return _difference("holds", set(gates.holds), views.holds)
    for channel, closures in gates.quarantined.items():
        stored = views.quarantined.get(channel, set())
        if stored != closures:
            return _difference(f"quarantined_closures of {channel}", closures, stored)
    return None


def _queued(rollouts: Mapping[str, RolloutModel]) -> set[tuple[str, str]]:
    return {
        (rollout_id, host)
        for rollout_id, rollout in rollouts.items()
        for host, model in rollout.hosts.items()
        if model.is_queued
    }


def _failing(rollouts: Mapping[str, RolloutModel]) -> set[tuple[str, str, Control]]:
    return {
        (rollout_id, host, control)
        for rollout_id, rollout in rollouts.items()
        for host, model in rollout.hosts.items()
        for control in model.failing
    }


def _difference(table: str, expected: Set[object], found: Set[object]) -> str:
    missing, extra = sorted(map(repr, expected - found)), sorted(map(repr, found - expected))
    return f"{table} lacks {missing} and has {extra} too many"
