"""A host that is only heard of: it numbers its facts and tells a scripted control plane, which must take them."""

from collections.abc import Callable
from datetime import datetime

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
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.host.convergence import soak_end_of
from tests.engines.control_plane import ScriptedControlPlane

BEFORE = "release-0"
PROBE = "alive"


class ScriptedHost:
    """One host in one rollout. Each method is what happened on it, just now."""

    def __init__(
        self, control_plane: ScriptedControlPlane, rollout_id: RolloutId, hostname: str
    ) -> None:
        self.control_plane = control_plane
        self.rollout_id = rollout_id
        self.hostname = hostname
        self.facts: list[AgentEvent] = []

    @property
    def now(self) -> datetime:
        return self.control_plane.now

    @property
    def target(self) -> str:
        return self.control_plane.mirrored(self.rollout_id, self.hostname).target_closure

    def live(self, fact_of: Callable[[int], AgentEvent]) -> AgentEvent:
        """Number a fact without telling anybody."""
        fact = fact_of(len(self.facts) + 1)
        self.facts.append(fact)
        return fact

    def tell(self, fact_of: Callable[[int], AgentEvent]) -> EventsOutcome:
        """Number a fact and tell it, come what may."""
        return self.control_plane.hear(self.hostname, self.rollout_id, self.live(fact_of))

    def _taken(self, fact_of: Callable[[int], AgentEvent]) -> None:
        outcome = self.tell(fact_of)
        assert outcome == EventsOutcome(1), outcome

    def acknowledge(self, attempt: int | None = None) -> None:
        self._taken(lambda seq: DispatchAck(BEFORE, self.now, seq, attempt))

    def start(self) -> None:
        self._taken(lambda seq: ActivationStarted(self.now, "directory", seq))

    def complete(self) -> None:
        self._taken(lambda seq: ActivationCompleted(self.target, 0, self.now, seq))

    def defer(self) -> None:
        self._taken(lambda seq: ActivationDeferred("kernel", self.now, seq))

    def break_down(self) -> None:
        """The switch fails."""
        self._taken(lambda seq: ActivationFailed(1, "no such unit", self.now, seq))

    def declare(self, mode: ProbeMode = ProbeMode.ENFORCE) -> None:
        probes = (ProbeTopologyEntry(PROBE, "exec", mode),)
        self._taken(lambda seq: ProbeTopologyDeclared(probes, self.now, seq))

    def probe(
        self,
        status: ProbeStatus = ProbeStatus.PASS,
        mode: ProbeMode = ProbeMode.ENFORCE,
        *sub_results: ProbeSubResult,
    ) -> None:
        self._taken(
            lambda seq: ProbeResult(
                PROBE, mode, status, self.now, None, sub_results or None, seq=seq
            )
        )

    def fail(self, policy: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT) -> None:
        self._taken(lambda seq: Failed(self.now, 60, (PROBE,), policy, seq))

    def roll_back(self, exit_code: int = 0) -> None:
        self._taken(lambda seq: RollbackComplete(BEFORE, exit_code, self.now, seq))

    def converge(self) -> None:
        self._taken(lambda seq: Converged(self.now, self.target, seq))

    def regress(self, policy: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT) -> None:
        self._taken(lambda seq: Regressed(self.now, 60, (PROBE,), policy, seq))

    # From Pending to there at one go.

    def soak(self, attempt: int | None = None) -> None:
        self.acknowledge(attempt)
        self.start()
        self.complete()
        self.declare()
        self.probe()

    def finish(self, attempt: int | None = None) -> None:
        """Converge at the end of the soak, for which the control plane waits, or now, whichever is later."""
        self.soak(attempt)
        due = soak_end_of(self.control_plane.mirrored(self.rollout_id, self.hostname))
        assert due is not None
        self.control_plane.now = max(due, self.now)
        self.converge()

    def revert(self) -> None:
        self.soak()
        self.fail()
        self.roll_back()
