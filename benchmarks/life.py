"""One host's life of 28 facts, and the hosts who live it. What every workload is fed with.

Source: docs/explanation/decisions/speed.md, Workloads.
"""

from datetime import UTC, datetime, timedelta

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    OnHealthFailure,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine import HostRolloutState

T0 = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
ROLLOUT = RolloutId("stable@a1b2c3d4")
POLICY = RolloutPolicy(OnHealthFailure.HALT)
TARGET = "k2f7nq0v1xw3c5r8-nixos-system-26.05"
PRIOR = "9xq4m2b6l8s0d1f3-nixos-system-25.11"
PROBES = ("nginx", "dns", "disk")
PROBE_RESULTS = 20
SOAK_SECONDS = 300
FACTS_PER_LIFE = 28


def at(seconds: float, begin: datetime = T0) -> datetime:
    """Return the time so many seconds into the life."""
    return begin + timedelta(seconds=seconds)


def life(target: str = TARGET, begin: datetime = T0) -> tuple[AgentEvent, ...]:
    """Return the 28 facts: dispatched, activated, three probes in twenty results, converged."""
    enforce = ProbeMode.ENFORCE
    first = len(PROBES) + 5
    topology = tuple(ProbeTopologyEntry(name, "http", enforce) for name in PROBES)
    return (
        DispatchAck(PRIOR, at(1, begin), 1),
        ActivationStarted(at(2, begin), "systemd-run", 2),
        ActivationCompleted(target, 0, at(30, begin), 3),
        ProbeTopologyDeclared(topology, at(31, begin), 4),
        *(ProbeObservedFirst(name, enforce, at(32, begin), 5 + i) for i, name in enumerate(PROBES)),
        *(_result(i, first + i, begin) for i in range(PROBE_RESULTS)),
        Converged(at(SOAK_SECONDS + 31, begin), target, first + PROBE_RESULTS),
    )


def _result(index: int, seq: int, begin: datetime) -> ProbeResult:
    """One probe fails once, early; the last word of each is a pass."""
    fails = index == 3
    status = ProbeStatus.FAIL if fails else ProbeStatus.PASS
    reason = "HTTP 503" if fails else None
    probe = PROBES[index % len(PROBES)]
    return ProbeResult(
        probe, ProbeMode.ENFORCE, status, at(40 + 10 * index, begin), reason, seq=seq
    )


def pending(hostname: str = "web-00001") -> HostRolloutState:
    """Return the record of a host that was dispatched."""
    return HostRolloutState.pending(
        ROLLOUT, hostname, ROLLOUT.channel, TARGET, T0, at(SOAK_SECONDS)
    )
