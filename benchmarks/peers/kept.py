"""What a host keeps, whichever library moves it: the same data and the same rules as ours. Mutable."""

from datetime import datetime

from benchmarks.life import ROLLOUT, SOAK_SECONDS, TARGET, at
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
)
from nixfleet_state_machine.host.effect import RemoteAppendEventLog


class KeptProbe:
    """The latest word on one probe."""

    def __init__(self, fact: ProbeResult, before: "KeptProbe | None") -> None:
        self.status, self.mode, self.last_observed_at = fact.status, fact.mode, fact.observed_at
        self.last_pass_at: datetime | None = None if before is None else before.last_pass_at
        self.failing_since: datetime | None = None
        self.failure_reason: str | None = None
        if fact.status is ProbeStatus.PASS:
            self.last_pass_at = fact.observed_at
        else:
            since = None if before is None else before.failing_since
            self.failing_since = since or fact.observed_at
            self.failure_reason = fact.failure_reason


class KeptHost:
    """Everything that is known of one host, and what was passed on of what it was told."""

    def __init__(self) -> None:
        self.hostname = "web-00001"
        self.passed_on: list[RemoteAppendEventLog] = []
        self.target_closure = TARGET
        self.soak_due_at = at(SOAK_SECONDS)
        self.current_closure: str | None = None
        self.current_closure_at_dispatch: str | None = None
        self.dispatch_acked_at: datetime | None = None
        self.activation_started_at: datetime | None = None
        self.activation_completed_at: datetime | None = None
        self.probe_observed_first_at: datetime | None = None
        self.converged_at: datetime | None = None
        self.probes: dict[str, KeptProbe] = {}
        self.declared_probes: tuple[ProbeTopologyEntry, ...] | None = None
        self.last_event_seq = 0

    def note(self, fact: AgentEvent) -> None:
        """Take the fact's number, and hand the fact on, as the reducer does with an effect."""
        if fact.seq <= self.last_event_seq:
            raise ValueError(f"expected more than {self.last_event_seq}, found {fact.seq}")
        self.last_event_seq = fact.seq
        self.passed_on.append(RemoteAppendEventLog(self.hostname, ROLLOUT, fact))

    def acknowledge(self, fact: DispatchAck) -> None:
        self.note(fact)
        self.current_closure_at_dispatch = fact.current_closure_at_dispatch
        self.dispatch_acked_at = fact.received_at

    def start(self, fact: ActivationStarted) -> None:
        self.note(fact)
        self.activation_started_at = fact.started_at

    def complete(self, fact: ActivationCompleted) -> None:
        self.note(fact)
        self.activation_completed_at = fact.completed_at
        self.current_closure = fact.observed_current_closure
        self.probes, self.declared_probes = {}, None

    def declare(self, fact: ProbeTopologyDeclared) -> None:
        self.note(fact)
        self.declared_probes = fact.probes

    def observe(self, fact: ProbeObservedFirst) -> None:
        self.note(fact)
        self.probe_observed_first_at = self.probe_observed_first_at or fact.observed_at

    def probe(self, fact: ProbeResult) -> None:
        self.note(fact)
        self.probes[fact.probe_name] = KeptProbe(fact, self.probes.get(fact.probe_name))

    def may_converge(self, fact: Converged) -> bool:
        """Whether all four rules hold."""
        declared = self.declared_probes or ()
        return (
            fact.current_closure == self.target_closure
            and fact.converged_at >= self.soak_due_at
            and all(p.status is ProbeStatus.PASS for p in self.probes.values() if _gates(p))
            and all(entry.probe_name in self.probes for entry in declared if _gates(entry))
        )

    def converge(self, fact: Converged) -> None:
        self.note(fact)
        self.converged_at = fact.converged_at
        self.current_closure = fact.current_closure


def _gates(probe: KeptProbe | ProbeTopologyEntry) -> bool:
    return probe.mode is ProbeMode.ENFORCE
