"""Three fixed histories of one host: every kind of fact, and every effect that follows from one, occurs in them.

Texts and times are awkward on purpose (quotes, line ends, characters beyond ASCII, microseconds): stored values
must be read back unchanged.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from attrs import evolve, frozen

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    Postponed,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import AgentEffect, ControlPlaneEffect
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState

T0 = datetime(2026, 5, 16, 1, 0, 0, 123456, tzinfo=UTC)
HOST = "web-01"
OTHER_HOST = "web-02"
CHANNEL = "stable"
ROLLOUT = RolloutId("stable@a1b2c3")
OTHER_ROLLOUT = RolloutId("stable@d4e5f6")
PRIOR = "9xq-web-01-25.11"
TARGET = "k2f-web-01-26.05"
SOAK = timedelta(minutes=5)
POLICY = RolloutPolicy(OnHealthFailure.ROLLBACK_AND_HALT)


def at(seconds: float) -> datetime:
    """Return the time so many seconds after `T0`."""
    return T0 + timedelta(seconds=seconds)


def pending_record(rollout_id: RolloutId = ROLLOUT, hostname: str = HOST) -> HostRolloutState:
    """Return the record of a host that is to get `TARGET` and has not said anything."""
    return HostRolloutState.pending(rollout_id, hostname, CHANNEL, TARGET, T0, T0 + SOAK)


_ACTIVATED = (
    DispatchAck(PRIOR, at(1), seq=1),
    ActivationStarted(at(2), "systemd-run", seq=2),
    ActivationCompleted(TARGET, 0, at(30.000001), seq=3),
    ProbeTopologyDeclared((ProbeTopologyEntry("nginx", "http", ProbeMode.ENFORCE),), at(31), seq=4),
    ProbeObservedFirst("nginx", ProbeMode.ENFORCE, at(32), seq=5),
)

CONVERGES: tuple[AgentEvent, ...] = (
    *_ACTIVATED,
    ProbeResult(
        "nginx",
        ProbeMode.ENFORCE,
        ProbeStatus.PASS,
        at(33),
        sub_results=(
            ProbeSubResult("tls-1.3", ProbeStatus.PASS, "bsi", article="§ 4"),
            ProbeSubResult(
                "hsts",
                ProbeStatus.FAIL,
                "bsi",
                effective_mode=ProbeMode.OBSERVE,
                override_reason='"until June"',
            ),
        ),
        seq=6,
    ),
    Converged(at(331), TARGET, seq=7),
)
"""A host that converges."""

ROLLS_BACK: tuple[AgentEvent, ...] = (
    *_ACTIVATED,
    ProbeResult(
        "nginx",
        ProbeMode.ENFORCE,
        ProbeStatus.FAIL,
        at(33),
        "expected 200, found 503\n\t“gateway” ✗",
        seq=6,
    ),
    ProbeFailureFirst("nginx", ProbeMode.ENFORCE, at(33), seq=7),
    Failed(at(93), 60, ("nginx",), OnHealthFailure.ROLLBACK_AND_HALT, seq=8),
    RollbackComplete(PRIOR, 0, at(120), seq=9),
)
"""A host whose probe keeps failing, and that goes back to what ran before."""

ROLLBACK_FAILS_FIRST: tuple[AgentEvent, ...] = (
    DispatchAck(PRIOR, at(1), seq=1),
    ActivationDeferred("kernel", at(2), seq=2),
    ActivationFailed(4, "unit “nginx.service” failed:\r\n  it's 100% broken \\o/", at(3), seq=3),
    RollbackComplete(TARGET, 1, at(4), seq=4),
    RollbackComplete(PRIOR, 0, at(5), seq=5),
)
"""A host whose deferred switch fails, and that needs two attempts to go back."""

REGRESSES_AND_TRIES_AGAIN: tuple[AgentEvent, ...] = (
    *CONVERGES,
    Regressed(at(400), 60, ("nginx",), OnHealthFailure.ROLLBACK_AND_HALT, seq=8),
    RollbackComplete(PRIOR, 0, at(420), seq=9),
    DispatchAck(PRIOR, at(500), seq=10, attempt=2),
    ActivationStarted(at(501), "systemd-run", seq=11),
    ActivationCompleted(TARGET, 0, at(530), seq=12),
    Converged(at(831), TARGET, seq=13),
)
"""A host that converged, fails, goes back, and converges at its second attempt."""

IS_RECALLED: tuple[AgentEvent, ...] = (
    *CONVERGES,
    Recalled("order-1", at(400), seq=8),
    RollbackComplete(PRIOR, 0, at(420), seq=9),
)
"""A host that converged, and that an operator takes back."""

POSTPONES: tuple[AgentEvent, ...] = (
    Postponed(at(1), "a call is in progress\n\t“until 9” ✗", at(3600), seq=1),
    Postponed(at(3600), "order 2 of operator ada overrides it", at(3600), seq=2),
    DispatchAck(PRIOR, at(3601), seq=3),
    ActivationStarted(at(3602), "systemd-run", seq=4),
)
"""A host whose user is in a call, and that begins once an operator overrides its lock."""

HISTORIES = {
    "converges": CONVERGES,
    "rolls-back": ROLLS_BACK,
    "rollback-fails-first": ROLLBACK_FAILS_FIRST,
    "regresses-and-tries-again": REGRESSES_AND_TRIES_AGAIN,
    "is-recalled": IS_RECALLED,
    "postpones": POSTPONES,
}


@frozen
class LocalStep:
    """One step of an agent: a fact, the record after it, and the effects in order."""

    fact: AgentEvent
    record: HostRolloutState
    effects: tuple[AgentEffect, ...]


@frozen
class RemoteStep:
    """One step of a control plane: a fact, the record after it, and the effects in order."""

    fact: AgentEvent
    record: HostRolloutState
    effects: tuple[ControlPlaneEffect, ...]


def local_steps(facts: Iterable[AgentEvent], hostname: str = HOST) -> tuple[LocalStep, ...]:
    """Return an agent's steps for `facts`, from the Pending record on."""
    record = pending_record(hostname=hostname)
    steps: list[LocalStep] = []
    for fact in facts:
        record, effects = step(record, Local(fact), T0, POLICY)
        steps.append(LocalStep(fact, record, effects))
    return tuple(steps)


def remote_steps(facts: Iterable[AgentEvent], hostname: str = HOST) -> tuple[RemoteStep, ...]:
    """Return a control plane's steps for `facts`, from the Pending record on."""
    record = pending_record(hostname=hostname)
    steps: list[RemoteStep] = []
    for fact in facts:
        record, effects = step(record, Remote(fact), T0, POLICY)
        steps.append(RemoteStep(fact, record, effects))
    return tuple(steps)


def record_after(
    facts: Iterable[AgentEvent], rollout_id: RolloutId = ROLLOUT, hostname: str = HOST
) -> HostRolloutState:
    """Return the record of a host after `facts`."""
    steps = remote_steps(facts, hostname)
    record = steps[-1].record if steps else pending_record(hostname=hostname)
    return evolve(record, rollout_id=rollout_id)
