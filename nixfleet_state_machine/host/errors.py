"""Refusals of the host machine: the fact does not apply to the record. The record is untouched.

Callers act on the class and the attributes; the text is for people.
Source: docs/spec/host-machine.md, Transitions; docs/spec/host-machine.md, Convergence.
"""

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import WordEnum
from nixfleet_proto.errors import NixfleetError
from nixfleet_state_machine.host.state import HostRolloutState


class TransitionError(NixfleetError):
    """A fact does not apply to a host's record. `state` is the record, unchanged; `fact` what came."""

    def __init__(self, state: HostRolloutState, fact: AgentEvent) -> None:
        super().__init__(state, fact)
        self.state = state
        self.fact = fact

    def _where(self) -> str:
        return f"(rollout {self.state.rollout_id}, host {self.state.hostname}, seq {self.fact.seq})"


class IllegalForState(TransitionError):
    """The fact has no meaning in the state the host is in."""

    def __str__(self) -> str:
        return (
            f"{type(self.fact).__name__} is not legal from {self.state.state.value} {self._where()}"
        )


class SeqRegression(TransitionError):
    """The fact is not later than the last one applied: `got` is not above `last`."""

    def __init__(self, state: HostRolloutState, fact: AgentEvent) -> None:
        super().__init__(state, fact)
        self.got: int = fact.seq
        self.last: int = state.last_event_seq

    def __str__(self) -> str:
        return (
            f"{type(self.fact).__name__} has seq {self.got}, but {self.last} was already applied: "
            f"expected a later one {self._where()}"
        )


class ConvergenceRule(WordEnum):
    """The four rules a `Converged` must satisfy, in the order they are checked."""

    CLOSURE_IS_TARGET = "closure-is-target"
    SOAK_ELAPSED = "soak-elapsed"
    ENFORCE_PROBES_PASS = "enforce-probes-pass"
    DECLARED_PROBES_REPORTED = "declared-probes-reported"


class InvariantViolation(TransitionError):
    """A `Converged` that breaks `rule`; `expected` and `found` say how."""

    def __init__(
        self,
        state: HostRolloutState,
        fact: AgentEvent,
        rule: ConvergenceRule,
        expected: str,
        found: str,
    ) -> None:
        super().__init__(state, fact)
        self.args: tuple[object, ...] = (state, fact, rule, expected, found)
        self.rule = rule
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"{type(self.fact).__name__} breaks rule {self.rule.value}: "
            f"expected {self.expected}, found {self.found} {self._where()}"
        )
