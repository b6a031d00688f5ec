"""Which facts follow from probe runs, and when a failure has lasted long enough to be sustained. Pure.

Source: docs/spec/runtimes.md, Sustained failure; docs/spec/runtimes.md, Probe runners.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from nixfleet_agent.engine.observation import FailingRun, sustained
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed, reportable
from nixfleet_proto.agent_event import (
    AgentEvent,
    Failed,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Regressed,
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, kind_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState

FactOf: TypeAlias = Callable[[int], AgentEvent]
"""Returns a fact for the seq it is given."""

UNREADABLE_CHECKS = "health-checks"
"""The name of the probe that reports health checks which could not be read."""

RUNNING_CLOSURE = "running-closure"
"""The name of the probe that reports a running closure other than the soaking one, and the end of that."""


OWN_PROBES = (UNREADABLE_CHECKS, RUNNING_CLOSURE)
"""Probes that no runner runs: the agent knows at any time whether they fail."""


def topology_of(checks: HealthCheckSet) -> tuple[ProbeTopologyEntry, ...]:
    """Return the entries that declare all probes, by name."""
    return tuple(
        ProbeTopologyEntry(name, kind_of(check), check.mode)
        for name, check in sorted(checks.items())
    )


def unreadable_facts(problem: str, now: datetime) -> Iterator[FactOf]:
    """Yield the facts for health checks that cannot be read: one probe, which fails."""
    entry = ProbeTopologyEntry(UNREADABLE_CHECKS, "declaration", ProbeMode.ENFORCE)
    yield lambda seq: ProbeTopologyDeclared((entry,), now, seq)
    yield lambda seq: ProbeObservedFirst(UNREADABLE_CHECKS, ProbeMode.ENFORCE, now, seq)
    yield lambda seq: ProbeFailureFirst(UNREADABLE_CHECKS, ProbeMode.ENFORCE, now, seq)
    yield lambda seq: ProbeResult(
        UNREADABLE_CHECKS,
        ProbeMode.ENFORCE,
        ProbeStatus.FAIL,
        now,
        problem[:FAILURE_REASON_LENGTH_MAX],
        seq=seq,
    )


def facts_of_running_closure(
    record: HostRolloutState, running: str, now: datetime
) -> Iterator[FactOf]:
    """Yield the facts for a running closure that differs from the soaking one, or that is the soaking one again.

    An operator may have switched the machine by hand, or it booted another generation. Probe results are then not
    about the closure that is to converge.
    """
    known = record.probes.get(RUNNING_CLOSURE)
    is_failing = known is not None and known.status is ProbeStatus.FAIL
    target = record.target_closure
    if (running != target) is is_failing:
        return
    outcome = PASSED if running == target else failed(f"{target} to run", running)
    yield from facts_of_probe(record, RUNNING_CLOSURE, ProbeMode.ENFORCE, outcome, now)


def facts_of_probe(
    record: HostRolloutState,
    probe_name: str,
    mode: ProbeMode,
    outcome: ProbeOutcome,
    now: datetime,
) -> Iterator[FactOf]:
    """Yield the facts of one run of a probe, in order."""
    outcome = reportable(outcome)
    if probe_name not in record.probes:
        yield lambda seq: ProbeObservedFirst(probe_name, mode, now, seq)
    if outcome.status is ProbeStatus.FAIL and record.probe_failure_first_at is None:
        yield lambda seq: ProbeFailureFirst(probe_name, mode, now, seq)
    yield lambda seq: ProbeResult(
        probe_name,
        mode,
        outcome.status,
        now,
        outcome.failure_reason,
        outcome.sub_results,
        seq=seq,
    )


def sustained_failure(
    record: HostRolloutState,
    policy: RolloutPolicy,
    threshold: timedelta,
    now: datetime,
    failing: Mapping[str, FailingRun],
) -> FactOf | None:
    """Return the `Failed` that is due, if an enforce probe has failed without a pass for `threshold`.

    A probe that recovers starts its run anew: flapping is not sustained failure. failing: the runs that were observed.
    """
    if record.state is not HostState.SOAKING:
        return None
    runs = sustained(record, failing, threshold)
    if not runs:
        return None
    lasted_secs, names = _lasted(runs)
    return lambda seq: Failed(now, lasted_secs, names, policy.on_health_failure, seq)


def regression(
    record: HostRolloutState,
    policy: RolloutPolicy,
    threshold: timedelta,
    now: datetime,
    failing: Mapping[str, FailingRun],
) -> FactOf | None:
    """Return the `Regressed` that is due for a host that has converged, by the same rule as `sustained_failure`."""
    if record.state is not HostState.CONVERGED:
        return None
    runs = sustained(record, failing, threshold)
    if not runs:
        return None
    lasted_secs, names = _lasted(runs)
    return lambda seq: Regressed(now, lasted_secs, names, policy.on_health_failure, seq)


def _lasted(runs: Mapping[str, FailingRun]) -> tuple[int, tuple[str, ...]]:
    return int(max(run.lasted for run in runs.values()).total_seconds()), tuple(sorted(runs))
