"""What probes come to: which facts follow from a run, and when failing has lasted long enough. Pure.

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
"""A fact that waits for its number."""

UNREADABLE_CHECKS = "health-checks"
"""The probe that stands for health checks which could not be read."""

RUNNING_CLOSURE = "running-closure"
"""The probe that stands for what runs; it reports only when that is not what soaks, and when it is again."""


def topology_of(checks: HealthCheckSet, now: datetime) -> FactOf:
    """Return the declaration of all probes, by name."""
    entries = tuple(
        ProbeTopologyEntry(name, kind_of(check), check.mode)
        for name, check in sorted(checks.items())
    )
    return lambda seq: ProbeTopologyDeclared(entries, now, seq)


def unreadable_facts(problem: str, now: datetime) -> Iterator[FactOf]:
    """Yield what to report when a closure's health checks cannot be read: one probe, and it fails."""
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
    """Yield what to report when something else than the closure that soaks runs, or when that is over.

    Somebody switched the machine by hand, or it booted into another generation: what the probes say then is not
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
    """Yield the facts that one run of a probe comes to, in order."""
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
    """Return since when each probe fails, when `name` has just had the result that `record` holds.

    known: the same, before. It is the start of the unbroken run, as in the record; but a run that began at a time
    which is yet to come, since the clock was set back, is counted from now on.
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

    A probe that recovers starts its clock anew: flapping is not sustained failure. failing_from: where it differs
    from the record, it counts.
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
