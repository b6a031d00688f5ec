"""Watching a host that has converged: when its probes go on, and which of their results count. No fact is made here.

Source: docs/spec/runtimes.md, Watching a converged host.
"""

from nixfleet_agent.engine.state import CommitBuilder, LocalRollout, State
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    LoadChecks,
    RolloutsRest,
    StartProbes,
    StopProbes,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import HomeProbe
from nixfleet_proto.ids import RolloutId


def watched(state: State, rollout_id: RolloutId) -> LocalRollout | None:
    """Return the rollout if its host is watched."""
    rollout = state.rollouts.get(rollout_id)
    return rollout if rollout is not None and state.is_watched(rollout) else None


def watched_with_its_target(state: State, rollout_id: RolloutId) -> LocalRollout | None:
    """Return the rollout if its host is watched and runs its target: after a drift, probes say nothing of that."""
    rollout = watched(state, rollout_id)
    if rollout is None or state.running_closure.get() not in (None, rollout.record.target_closure):
        return None
    return rollout


def note_resting(state: State, commit: CommitBuilder, input: RolloutsRest) -> None:
    """Stop watching in rollouts that rest now, and begin again in those that go on: an operator cleared them."""
    before = _watched_ids(state)
    state.resting.set(input.rollout_ids)
    now = _watched_ids(state)
    for rollout_id in sorted(before - now):
        state.forget_probes(rollout_id)
        commit.afterwards(StopProbes(rollout_id))
    for rollout_id in sorted(now - before):
        target = state.rollouts[rollout_id].record.target_closure
        commit.afterwards(LoadChecks(rollout_id, target))


def watch(state: State, commit: CommitBuilder, input: ChecksLoaded) -> None:
    """Run the probes of a host that is watched, except those that are to run once, which had their run.

    Neither are those of kind `home`: what a switch cut shows while the host soaks, and an outage of the control plane
    must not send back a whole fleet that has converged.
    """
    if watched(state, input.rollout_id) is None:
        return
    again = {
        name: check
        for name, check in input.checks.items()
        if not (check.run_once or isinstance(check, HomeProbe))
    }
    checks = HealthCheckSet(again)
    state.checks.set(input.rollout_id, checks)
    commit.afterwards(StartProbes(input.rollout_id, checks))


def _watched_ids(state: State) -> set[RolloutId]:
    open_rollouts = state.open_rollouts()
    return {each.record.rollout_id for each in open_rollouts if state.is_watched(each)}
