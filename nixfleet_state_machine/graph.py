"""The state graphs of both machines, derived by running the production `step` and `step_rollout`, and drawn as text.

No transition is listed here. Every sample is applied to the initial record, and to each record that results, until
there is no new one. Each transition is an edge.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from textwrap import wrap
from typing import Generic, TypeVar

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
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_state_machine.host.effect import (
    EmitMetric,
    HostEffect,
    LocalEmitEvent,
    RecordTransition,
    RemoteAppendEventLog,
)
from nixfleet_state_machine.host.errors import ConvergenceRule, InvariantViolation, TransitionError
from nixfleet_state_machine.host.event import Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.effect import RecordRolloutTransition, RolloutEffect
from nixfleet_state_machine.rollout.errors import RolloutTransitionError
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    Stage,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing

R = TypeVar("R", HostRolloutState, RolloutRecord)


@frozen
class Arrow:
    """An edge: a fact or event of kind `cause` moves a record from `source` to `target`.

    condition: the variants of the cause that do, if not all; or the rules it must satisfy.
    orders: the effects, without those that every transition has; with a "?" if not all records and policies have them.
    begins_anew: only another attempt or a regression takes this edge.
    """

    source: str
    target: str
    cause: str
    condition: str = ""
    orders: tuple[str, ...] = ()
    begins_anew: bool = False

    @property
    def label(self) -> str:
        """The edge in words: `cause [condition] / orders`."""
        condition = f" [{self.condition}]" if self.condition else ""
        orders = f" / {', '.join(self.orders)}" if self.orders else ""
        return f"{self.cause}{condition}{orders}"


@frozen
class Graph:
    """One machine: the states reachable from `start`, and all edges between them."""

    name: str
    start: str
    nodes: tuple[str, ...]
    edges: tuple[Arrow, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """The states that are left for no other one, unless all begins anew."""
        left = {
            edge.source
            for edge in self.edges
            if edge.target != edge.source and not edge.begins_anew
        }
        return tuple(node for node in self.nodes if node not in left)


def host_graph() -> Graph:
    """Return the host machine. Both sides make the same transitions; an edge has the effects of both."""
    pending = HostRolloutState.pending(
        _ROLLOUT, "web-01", "stable", "target", dispatched_at=_BEFORE, soak_due_at=_DUE
    )
    return _graph("host", HostState, tuple(_explored(pending, _host_trials)))


def rollout_graph() -> Graph:
    """Return the rollout machine."""
    opening = open_rollout(RolloutOpened(_ROLLOUT, "stable", "a1b2", _BEFORE), 1, of_channel=())
    return _graph("rollout", RolloutState, tuple(_explored(opening, _rollout_trials)))


# --- drawings --------------------------------------------------------------------------------------


def text(graph: Graph) -> str:
    """Return `graph` as lines: each state, followed by its outgoing edges."""
    lines = [f"{graph.name}: starts as {graph.start}, ends as {' or '.join(graph.ends)}"]
    for node in graph.nodes:
        lines.append(f"  {node}")
        lines.extend(f"    -> {e.target}: {e.label}" for e in graph.edges if e.source == node)
    return "\n".join(lines)


def mermaid(graph: Graph) -> str:
    """Return `graph` as a Mermaid state diagram, with one arrow between two states."""
    lines = ["stateDiagram-v2", f"  [*] --> {graph.start}"]
    for (source, target), labels in _arrows(graph).items():
        lines.append(f"  {source} --> {target}: {'<br>'.join(labels)}")
    lines.extend(f"  {node} --> [*]" for node in graph.ends)
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    """Return `graph` in the Graphviz language, with one arrow between two states."""
    lines = [f"digraph {graph.name} {{", "  node [shape=box, style=rounded];"]
    lines.extend(f"  {node} [peripheries=2];" for node in graph.ends)
    for (source, target), labels in _arrows(graph).items():
        wrapped = [line for label in labels for line in wrap(label, 40, break_on_hyphens=False)]
        lines.append(f'  {source} -> {target} [label="' + "\\n".join(wrapped) + '"];')
    return "\n".join((*lines, "}"))


def _arrows(graph: Graph) -> dict[tuple[str, str], list[str]]:
    labels: dict[tuple[str, str], list[str]] = {}
    for edge in graph.edges:
        labels.setdefault((edge.source, edge.target), []).append(edge.label)
    return labels


# --- from trials to edges --------------------------------------------------------------------------


@frozen
class _Trial(Generic[R]):
    """The result of one sample. after: `None` if it was refused or ignored. rule: the one it broke."""

    before: R
    cause: str
    variant: str
    after: R | None = None
    orders: tuple[str, ...] = ()
    rule: ConvergenceRule | None = None
    begins_anew: bool = False

    @property
    def source(self) -> str:
        return self.before.state.value

    @property
    def target(self) -> str | None:
        return None if self.after is None else self.after.state.value


def _explored(start: R, tries: Callable[[R], Iterable[_Trial[R]]]) -> Iterator[_Trial[R]]:
    """Yield the trials of `start` and of every record that results, breadth first."""
    ahead = [start]
    known = {start}
    for record in ahead:
        for trial in tries(record):
            yield trial
            if trial.after is not None and trial.after not in known:
                known.add(trial.after)
                ahead.append(trial.after)


def _graph(name: str, states: Iterable[str], trials: tuple[_Trial[R], ...]) -> Graph:
    by_cause: dict[tuple[str, str], list[_Trial[R]]] = {}
    for trial in trials:
        by_cause.setdefault((trial.source, trial.cause), []).append(trial)
    reached = {source for source, _ in by_cause}
    nodes = [str(state) for state in states if state in reached]
    edges = [edge for tried in by_cause.values() for edge in _edges(tried)]
    edges.sort(key=lambda edge: nodes.index(edge.source))
    return Graph(name, trials[0].source, tuple(nodes), tuple(edges))


def _edges(trials: list[_Trial[R]]) -> Iterator[Arrow]:
    """Yield the edges out of one state for one kind of fact or event."""
    rules = [rule.value for rule in ConvergenceRule if any(t.rule is rule for t in trials)]
    by_target: dict[str | None, list[_Trial[R]]] = {}
    for trial in trials:
        if trial.rule is None:
            by_target.setdefault(trial.target, []).append(trial)
    for target, moves in by_target.items():
        if target is not None:
            variants = dict.fromkeys(move.variant for move in moves) if len(by_target) > 1 else ()
            condition = " or ".join(variants) or " and ".join(rules)
            begins_anew = all(move.begins_anew for move in moves)
            first = moves[0]
            yield Arrow(first.source, target, first.cause, condition, _orders(moves), begins_anew)


def _orders(trials: list[_Trial[R]]) -> tuple[str, ...]:
    all_orders = dict.fromkeys(order for trial in trials for order in trial.orders)
    return tuple(
        order if all(order in trial.orders for trial in trials) else f"{order}?"
        for order in all_orders
    )


# --- trying ----------------------------------------------------------------------------------------


_BEFORE = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
_DUE = _BEFORE + timedelta(minutes=5)
_AT = _BEFORE + timedelta(minutes=10)
_ROLLOUT = RolloutId("stable@a1b2")
_SUCCESSOR = RolloutId("stable@c3d4")
_POLICIES = tuple(RolloutPolicy(on_health_failure=policy) for policy in OnHealthFailure)

# The effects that every transition has.
_OF_EVERY_MOVE = (
    LocalEmitEvent,
    RemoteAppendEventLog,
    RecordTransition,
    RecordRolloutTransition,
    EmitMetric,
)


def _host_trials(record: HostRolloutState) -> Iterator[_Trial[HostRolloutState]]:
    for variant, fact in _facts():
        for policy in _POLICIES:
            yield _host_trial(record, variant, fact, policy)


def _host_trial(
    record: HostRolloutState, variant: str, fact: AgentEvent, policy: RolloutPolicy
) -> _Trial[HostRolloutState]:
    cause = type(fact).__name__
    try:
        after, local = step(record, Local(fact), _AT, policy)
        _, remote = step(record, Remote(fact), _AT, policy)
    except InvariantViolation as refusal:
        return _Trial(record, cause, variant, rule=refusal.rule)
    except TransitionError:
        return _Trial(record, cause, variant)
    # Every fact has seq 1, so that records which differ only in the length of their history are equal.
    after = evolve(after, last_event_seq=record.last_event_seq)
    begins_anew = after.attempt > record.attempt or isinstance(fact, Regressed | Recalled)
    orders = _orders_among((*local, *remote))
    return _Trial(record, cause, variant, after, orders, begins_anew=begins_anew)


def _rollout_trials(record: RolloutRecord) -> Iterator[_Trial[RolloutRecord]]:
    for variant, event in _rollout_events():
        yield _rollout_trial(record, variant, event)


def _rollout_trial(
    record: RolloutRecord, variant: str, event: RolloutEvent
) -> _Trial[RolloutRecord]:
    cause = type(event).__name__
    try:
        after, effects = step_rollout(record, event, _AT)
    except RolloutTransitionError:
        return _Trial(record, cause, variant)
    is_ignored = after == record and not effects
    return _Trial(record, cause, variant, None if is_ignored else after, _orders_among(effects))


def _orders_among(effects: Iterable[HostEffect | RolloutEffect]) -> tuple[str, ...]:
    orders = (effect for effect in effects if not isinstance(effect, _OF_EVERY_MOVE))
    return tuple(dict.fromkeys(type(order).__name__ for order in orders))


def _facts() -> Iterator[tuple[str, AgentEvent]]:
    """Yield every kind of fact, in every variant that a reducer may distinguish."""
    enforce = ProbeMode.ENFORCE
    yield "attempt 1", DispatchAck("prior", _AT, 1)
    yield "the next attempt", DispatchAck("prior", _AT, 1, attempt=2)
    yield "", Postponed(_AT, "a call is in progress", _AT + timedelta(hours=1), 1)
    yield "", ActivationStarted(_AT, "systemd-run", 1)
    yield "", ActivationCompleted("target", 0, _BEFORE, 1)
    yield "", ActivationDeferred("kernel", _AT, 1)
    yield "", ActivationFailed(1, "boom", _AT, 1)
    yield "", ProbeTopologyDeclared((ProbeTopologyEntry("nginx", "http", enforce),), _AT, 1)
    yield "", ProbeObservedFirst("nginx", enforce, _AT, 1)
    for status in ProbeStatus:
        yield status.value, ProbeResult("nginx", enforce, status, _AT, seq=1)
    yield "", ProbeFailureFirst("nginx", enforce, _AT, 1)
    for policy in OnHealthFailure:
        yield policy.value, Failed(_AT, 60, ("nginx",), policy, 1)
    for policy in OnHealthFailure:
        yield policy.value, Regressed(_AT, 60, ("nginx",), policy, 1)
    yield "", Recalled("order-1", _AT, 1)
    yield "exit code 0", RollbackComplete("prior", 0, _AT, 1)
    yield "another exit code", RollbackComplete("prior", 1, _AT, 1)
    yield "", Converged(_AT, "target", 1)
    yield "on another closure", Converged(_AT, "other", 1)
    yield "before the soak is due", Converged(_BEFORE, "target", 1)


def _rollout_events() -> Iterator[tuple[str, RolloutEvent]]:
    """Yield every kind of event, in every variant that a reducer may distinguish."""
    yield "", RolloutOpened(_ROLLOUT, "stable", "a1b2", _AT)
    yield "", HostJoined(_ROLLOUT, "web-01", 0, _AT)
    for state in HostState:
        change = HostStateChanged(_ROLLOUT, "web-01", HostState.SOAKING, state, _AT)
        yield f"to {state.value}", change
        if state.is_failure:
            yield f"to {state.value} in a tolerant wave", evolve(change, is_tolerant=True)
    yield "", WaveBroken(_ROLLOUT, 1, failed=1, allowed=0, absent=0, at=_AT)
    web_01 = ("web-01",)
    for standing in (Standing.AWAY, Standing.LAPSED):
        yield "", HostsLapsed(_ROLLOUT, web_01, Stage.ACK, standing, _AT)
    for standing in (Standing.COUNTED, Standing.LATE):
        yield "", StandingChanged(_ROLLOUT, web_01, standing, "it reported again", _AT)
    yield "", RetryOrdered(_ROLLOUT, web_01, 2, "its back-off is over", _AT)
    yield "", MembersChanged(_ROLLOUT, (), web_01, (), _AT)
    yield "", HostDrifted(_ROLLOUT, "web-01", "other", _AT)
    yield "", DriftEnded(_ROLLOUT, "web-01", _AT)
    yield "", GuardsOpened(_ROLLOUT, 1, _AT)
    # Said twice it is said once; a check's answers would be counted without end.
    yield "", Verdict(_ROLLOUT, 1, APPROVALS, "alice", Outcome.PASS, "looks good", _AT)
    yield "to a later wave", WaveAdvanced(_ROLLOUT, 1, 2, _AT)
    yield "to the same wave", WaveAdvanced(_ROLLOUT, 1, 1, _AT)
    yield "to an earlier wave", WaveAdvanced(_ROLLOUT, 1, 0, _AT)
    yield "", RolloutTerminal(_ROLLOUT, _AT)
    yield "", OperatorClearance(_ROLLOUT, "alice", "replaced", frozenset({"web-01"}), _AT)
    yield "", RolloutAborted(_ROLLOUT, "alice", "not wanted", _AT)
    yield "", SuccessorOpened(_ROLLOUT, _SUCCESSOR, _AT)
    yield "", RetentionExpired(_ROLLOUT, _AT)
