"""Hosts: histories that apply, the records they lead to, and what may come next."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import assert_never

from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    Failed,
    Postponed,
    ProbeFailureFirst,
    ProbeMode,
    ProbeObservedFirst,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.convergence import first_broken_rule, soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState, ProbeRecord
from nixfleet_state_machine.replay import replay_host
from nixfleet_testing.strategies.facts import (
    FACTS,
    acknowledgements_of,
    facts,
    fails,
    numbered,
    passes,
    rollbacks_complete,
    seqs,
)
from nixfleet_testing.strategies.names import (
    START,
    closures,
    hostnames,
    policies,
    probe_names,
    rollout_ids,
    times,
)
from nixfleet_testing.strategies.walks import walks_to_states

STAYS_MAX = 4
ANY_STATE = st.sampled_from(HostState)


@frozen
class HostHistory:
    """Facts that apply one after the other to a Pending record, each taken in at its own time."""

    pending: HostRolloutState
    policy: RolloutPolicy
    facts: tuple[tuple[AgentEvent, datetime], ...] = ()

    @property
    def record(self) -> HostRolloutState:
        """What the facts lead to."""
        return replay_host(self.pending, self.facts, self.policy)


@frozen
class HostMoment:
    """A record that a legal history led to, and a fact for it, legal or not."""

    record: HostRolloutState
    fact: AgentEvent
    policy: RolloutPolicy
    now: datetime


@st.composite
def pending_records(draw: st.DrawFn) -> HostRolloutState:
    rollout_id = draw(rollout_ids())
    return HostRolloutState.pending(
        rollout_id=rollout_id,
        hostname=draw(hostnames()),
        channel=rollout_id.channel,
        target_closure=draw(closures()),
        dispatched_at=draw(st.none() | times()),
        soak_due_at=draw(st.none() | times()),
    )


@st.composite
def host_histories(
    draw: st.DrawFn,
    to: SearchStrategy[HostState] = ANY_STATE,
    pending: SearchStrategy[HostRolloutState] | None = None,
) -> HostHistory:
    """Histories of one host from a record of `pending` to a state drawn from `to`, by any way there."""
    history = HostHistory(draw(pending_records() if pending is None else pending), draw(policies()))
    goal = draw(to)
    for state, following in draw(st.sampled_from(_WALKS[goal])):
        history = _stayed(draw, history, state)
        history = _moved(draw, history, state, following)
    return _stayed(draw, history, goal)


def host_records() -> SearchStrategy[HostRolloutState]:
    """Records that legal histories lead to, in each state as often as in any other."""
    return host_histories().map(lambda history: history.record)


def soaking_records() -> SearchStrategy[HostRolloutState]:
    """Records of hosts that soak, with whatever their probes said so far."""
    return host_histories(to=st.just(HostState.SOAKING)).map(lambda history: history.record)


@st.composite
def probe_records(draw: st.DrawFn) -> ProbeRecord:
    """What a soaking host knows of a probe after a few results, one at least."""
    name = draw(probe_names())
    results = passes(st.just(name), st.sampled_from(ProbeMode)) | fails(st.just(name))
    to_soaking = host_histories(to=st.just(HostState.SOAKING))
    history = draw(to_soaking)
    for _ in range(draw(st.integers(1, 2))):
        history = _took(draw, history, results)
    return history.record.probes[name]


@st.composite
def host_moments(draw: st.DrawFn) -> HostMoment:
    """A record and a fact for it: legal, of any kind but in order, or of any kind and number."""
    record = draw(host_records())
    choices = [facts(), numbered(facts(), above=record.last_event_seq)]
    # Twice: what is refused comes often enough by itself.
    choices += [legal_facts(record)] * 2
    # Two draws: `one_of` would give each kind of fact, not each choice, an equal chance.
    fact = draw(draw(st.sampled_from(choices)))
    return HostMoment(record, fact, draw(policies()), draw(times()))


def legal_facts(record: HostRolloutState) -> SearchStrategy[AgentEvent]:
    """The facts that `step` takes from `record`."""
    kinds = _LEGAL[record.state]
    if record.may_try_again:
        kinds = kinds | acknowledgements_of(record.attempt + 1)
    if record.state is HostState.SOAKING and _may_converge(record):
        kinds = kinds | _convergences(record)
    return numbered(kinds, above=record.last_event_seq)


def next_facts(record: HostRolloutState, *, fails: bool = False) -> SearchStrategy[AgentEvent]:
    """The facts by which a host goes straight on to Converged, or through a failure to Reverted.

    Of one that is at rest: the acknowledgement of its next attempt.
    """
    kinds: SearchStrategy[AgentEvent]
    match record.state:
        case HostState.PENDING:
            kinds = acknowledgements_of(1)
        case HostState.ACTIVATING | HostState.DEFERRED:
            kinds = _MOVES[record.state, HostState.FAILED if fails else HostState.SOAKING]
        case HostState.SOAKING if fails:
            kinds = _MOVES[record.state, HostState.FAILED]
        case HostState.SOAKING:
            kinds = _convergences(record)
            for probe_name in _hindering(record):
                kinds = passes(st.just(probe_name), st.just(ProbeMode.ENFORCE))
        case HostState.FAILED if record.is_rolling_back:
            kinds = _MOVES[record.state, HostState.REVERTED]
        case HostState.FAILED | HostState.REVERTED | HostState.CONVERGED:
            kinds = acknowledgements_of(record.attempt + 1)
        case _:
            assert_never(record.state)
    return numbered(kinds, above=record.last_event_seq)


def _of(*kinds: type[AgentEvent]) -> SearchStrategy[AgentEvent]:
    return st.one_of([FACTS[kind] for kind in kinds])


# What takes a host from one state to another. Convergence and further attempts are missing: they depend on the record.
_MOVES: Mapping[tuple[HostState, HostState], SearchStrategy[AgentEvent]] = {
    (HostState.PENDING, HostState.ACTIVATING): acknowledgements_of(1),
    (HostState.ACTIVATING, HostState.SOAKING): _of(ActivationCompleted),
    (HostState.ACTIVATING, HostState.DEFERRED): _of(ActivationDeferred),
    (HostState.ACTIVATING, HostState.FAILED): _of(ActivationFailed, Recalled),
    (HostState.DEFERRED, HostState.SOAKING): _of(ActivationCompleted),
    (HostState.DEFERRED, HostState.FAILED): _of(ActivationFailed, Recalled),
    (HostState.SOAKING, HostState.FAILED): _of(Failed, Recalled),
    (HostState.FAILED, HostState.REVERTED): rollbacks_complete(st.just(0)),
    (HostState.CONVERGED, HostState.FAILED): _of(Regressed, Recalled),
}
# What a host takes and stays where it is.
_STAYS: Mapping[HostState, SearchStrategy[AgentEvent]] = {
    HostState.PENDING: _of(Postponed),
    HostState.ACTIVATING: _of(ActivationStarted),
    HostState.SOAKING: _of(
        ProbeResult, ProbeTopologyDeclared, ProbeObservedFirst, ProbeFailureFirst
    ),
    HostState.FAILED: rollbacks_complete(st.sampled_from((1, -9))),
    HostState.CONVERGED: _of(Postponed),
    HostState.REVERTED: _of(Postponed),
}
_CONVERGES = (HostState.SOAKING, HostState.CONVERGED)
_TRIES_AGAIN = (HostState.REVERTED, HostState.ACTIVATING)
HOST_MOVES = (*_MOVES, _CONVERGES, _TRIES_AGAIN)
_WALKS = walks_to_states(HOST_MOVES, start=HostState.PENDING, length_max=4)


def _kinds_legal_from(state: HostState) -> Iterator[SearchStrategy[AgentEvent]]:
    yield from (kinds for stays_in, kinds in _STAYS.items() if stays_in is state)
    yield from (kinds for (leaves, _), kinds in _MOVES.items() if leaves is state)


_LEGAL = {state: st.one_of(list(_kinds_legal_from(state))) for state in HostState}


def _stayed(draw: st.DrawFn, history: HostHistory, state: HostState) -> HostHistory:
    if state in _STAYS:
        for _ in range(draw(st.integers(0, STAYS_MAX))):
            history = _took(draw, history, _STAYS[state])
    return history


def _moved(
    draw: st.DrawFn, history: HostHistory, state: HostState, following: HostState
) -> HostHistory:
    if (state, following) == _TRIES_AGAIN:
        return _took(draw, history, acknowledgements_of(history.record.attempt + 1))
    if (state, following) != _CONVERGES:
        return _took(draw, history, _MOVES[state, following])
    for probe_name in _hindering(history.record):
        history = _took(draw, history, passes(st.just(probe_name), st.just(ProbeMode.ENFORCE)))
    return _took(draw, history, _convergences(history.record))


def _took(draw: st.DrawFn, history: HostHistory, kinds: SearchStrategy[AgentEvent]) -> HostHistory:
    fact = draw(numbered(kinds, above=history.record.last_event_seq))
    return evolve(history, facts=(*history.facts, (fact, draw(times()))))


def _hindering(record: HostRolloutState) -> list[str]:
    """The probes that must still pass before `record` may converge."""
    failing = {
        name
        for name, probe in record.probes.items()
        if probe.mode is ProbeMode.ENFORCE and probe.status is ProbeStatus.FAIL
    }
    silent = {probe.probe_name for probe in record.declared_probes or ()} - set(record.probes)
    return sorted(failing | silent)


def _may_converge(record: HostRolloutState) -> bool:
    due = soak_end_of(record) or START
    return first_broken_rule(record, record.target_closure, due) is None


def _convergences(record: HostRolloutState) -> SearchStrategy[Converged]:
    due = times(earliest=soak_end_of(record) or START)
    return st.builds(Converged, due, st.just(record.target_closure), seqs())
