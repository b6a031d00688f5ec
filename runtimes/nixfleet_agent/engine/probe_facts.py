"""Which facts follow from probe runs, and when a failure has lasted long enough to be sustained. Pure.

Source: docs/spec/runtimes.md, Sustained failure; docs/spec/runtimes.md, Probe runners.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, failed
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
)
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, kind_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState

FactOf: TypeAlias = Callable[[int], AgentEvent]
"""Returns a fact for the seq it is given."""

UNREADABLE_CHECKS = "health-checks"
"""The name of the probe that reports health checks which could not be read."""

RUNNING_CLOSURE = "running-closure"
"""The name of the probe that reports a running closure other than the soaking one, and the end of that."""


def topology_of(checks: HealthCheckSet, now: datetime) -> FactOf:
    """Return the declaration of all probes, by name."""
    entries = tuple(
        ProbeTopologyEntry(name, kind_of(check), check.mode)
        for name, check in sorted(checks.items())
    )
    return lambda seq: ProbeTopologyDeclared(entries, now, seq)


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


def failing_from(
    known: Mapping[str, datetime], record: HostRolloutState, name: str, now: datetime
) -> FrozenMap[str, datetime]:
    """Return since when each probe fails, after the result of `name` that `record` holds.

    known: the previous return value. The start of a failure is that in the record, except that a start in the future
    (the clock was set back) counts as now.
    """
    since = record.probes[name].failing_since
    others = {other: began for other, began in known.items() if other != name}
    if since is None:
        return FrozenMap(others)
    return FrozenMap({**others, name: min(known.get(name, since), now)})


def sustained_failure(
    record: HostRolloutState,
    policy: RolloutPolicy,
    threshold: timedelta,
    now: datetime,
    failing_from: Mapping[str, datetime],
) -> FactOf | None:
    """Return the `Failed` that is due, if an enforce probe has failed without a pass for `threshold`.

    A probe that recovers starts again: flapping is not sustained failure. failing_from: overrides the record.
    """
    if record.state is not HostState.SOAKING:
        return None
    began = {
        name: failing_from.get(name, probe.failing_since)
        for name, probe in record.probes.items()
        if probe.mode is ProbeMode.ENFORCE and probe.failing_since is not None
    }
    since = {name: at for name, at in began.items() if now - at >= threshold}
    if not since:
        return None
    lasted_secs = int((now - min(since.values())).total_seconds())
    failing = tuple(sorted(since))
    return lambda seq: Failed(now, lasted_secs, failing, policy.on_health_failure, seq)
