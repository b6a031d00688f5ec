"""Facts and events, of any kind and for any record."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

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
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_testing.strategies.names import (
    closures,
    probe_names,
    times,
)


def seqs(above: int = 0) -> SearchStrategy[int]:
    """Sequence numbers above `above`; there may be gaps."""
    return st.integers(above + 1, above + 4)


def facts() -> SearchStrategy[AgentEvent]:
    """Any fact with any number, whatever came before it."""
    return _ANY


def events() -> SearchStrategy[Event]:
    """Any fact, seen from either side."""
    return st.one_of(st.builds(Local, facts()), st.builds(Remote, facts()))


def numbered(drawn: SearchStrategy[AgentEvent], above: int) -> SearchStrategy[AgentEvent]:
    """The facts of `drawn`, with numbers above `above`."""
    return st.builds(_with_seq, drawn, seqs(above))


def _with_seq(fact: AgentEvent, seq: int) -> AgentEvent:
    return evolve(fact, seq=seq)


_SEQS = st.integers(1, 24)


def _dispatch_acks() -> SearchStrategy[DispatchAck]:
    # A host's first attempt is what most are about.
    attempts = st.sampled_from((None, None, None, 1, 2, 3))
    return st.builds(DispatchAck, closures(), times(), _SEQS, attempts)


def acknowledgements_of(attempt: int) -> SearchStrategy[DispatchAck]:
    """Acknowledgements of one attempt; of the first, the number may be left out."""
    numbers = st.sampled_from((None, 1)) if attempt == 1 else st.just(attempt)
    return st.builds(DispatchAck, closures(), times(), _SEQS, numbers)


def _activations_started() -> SearchStrategy[ActivationStarted]:
    return st.builds(ActivationStarted, times(), st.just("systemd-run"), _SEQS)


def _activations_completed() -> SearchStrategy[ActivationCompleted]:
    return st.builds(ActivationCompleted, closures(), st.integers(0, 1), times(), _SEQS)


def _activations_failed() -> SearchStrategy[ActivationFailed]:
    return st.builds(ActivationFailed, st.integers(1, 2), st.just("boom"), times(), _SEQS)


def _activations_deferred() -> SearchStrategy[ActivationDeferred]:
    components = st.sampled_from(("kernel", "systemd", "dbus", "init"))
    return st.builds(ActivationDeferred, components, times(), _SEQS)


def _topologies_declared() -> SearchStrategy[ProbeTopologyDeclared]:
    probes = st.lists(topology_entries(), max_size=2, unique_by=lambda entry: entry.probe_name)
    return st.builds(ProbeTopologyDeclared, probes.map(tuple), times(), _SEQS)


def topology_entries() -> SearchStrategy[ProbeTopologyEntry]:
    kinds = st.sampled_from(("http", "tcp", "exec", "evidence", "systemd"))
    return st.builds(ProbeTopologyEntry, probe_names(), kinds, st.sampled_from(ProbeMode))


def _probes_observed_first() -> SearchStrategy[ProbeObservedFirst]:
    return st.builds(ProbeObservedFirst, probe_names(), st.sampled_from(ProbeMode), times(), _SEQS)


def _probe_results() -> SearchStrategy[ProbeResult]:
    return st.one_of(passes(probe_names(), st.sampled_from(ProbeMode)), fails(probe_names()))


def passes(
    names: SearchStrategy[str], modes: SearchStrategy[ProbeMode]
) -> SearchStrategy[ProbeResult]:
    return st.builds(ProbeResult, names, modes, st.just(ProbeStatus.PASS), times(), seq=_SEQS)


def fails(names: SearchStrategy[str]) -> SearchStrategy[ProbeResult]:
    return st.builds(
        ProbeResult,
        names,
        st.sampled_from(ProbeMode),
        st.just(ProbeStatus.FAIL),
        times(),
        st.sampled_from(("HTTP 503", "timed out")),
        st.none() | st.lists(sub_results(), max_size=1).map(tuple),
        seq=_SEQS,
    )


def sub_results() -> SearchStrategy[ProbeSubResult]:
    controls = st.sampled_from(("A.8.1", "A.8.2"))
    return st.builds(
        ProbeSubResult, controls, st.sampled_from(ProbeStatus), st.just("nis2-essential")
    )


def _probe_failures_first() -> SearchStrategy[ProbeFailureFirst]:
    return st.builds(ProbeFailureFirst, probe_names(), st.sampled_from(ProbeMode), times(), _SEQS)


def _failures() -> SearchStrategy[Failed]:
    failing = st.lists(probe_names(), min_size=1, max_size=2, unique=True).map(tuple)
    return st.builds(
        Failed, times(), st.integers(60, 120), failing, st.sampled_from(OnHealthFailure), _SEQS
    )


def _recalls() -> SearchStrategy[Recalled]:
    return st.builds(Recalled, st.sampled_from(("order-1", "order-2")), times(), _SEQS)


def _postponements() -> SearchStrategy[Postponed]:
    """Also one that is over."""
    reasons = st.sampled_from(("a call is in progress", "the backup runs", "<b>\x1b[31m"))
    return st.builds(_postponed, times(), reasons, st.sampled_from((0, 1, 60)), _SEQS)


def _postponed(at: datetime, reason: str, minutes: int, seq: int) -> Postponed:
    return Postponed(at, reason, at + timedelta(minutes=minutes), seq)


def _regressions() -> SearchStrategy[Regressed]:
    failing = st.lists(probe_names(), min_size=1, max_size=2, unique=True).map(tuple)
    return st.builds(
        Regressed, times(), st.integers(60, 120), failing, st.sampled_from(OnHealthFailure), _SEQS
    )


def rollbacks_complete(exit_codes: SearchStrategy[int]) -> SearchStrategy[RollbackComplete]:
    return st.builds(RollbackComplete, closures(), exit_codes, times(), _SEQS)


def _convergences() -> SearchStrategy[Converged]:
    return st.builds(Converged, times(), closures(), _SEQS)


# Made once: a strategy costs more to make than to draw from.
FACTS: Mapping[type[AgentEvent], SearchStrategy[AgentEvent]] = {
    DispatchAck: _dispatch_acks(),
    ActivationStarted: _activations_started(),
    ActivationCompleted: _activations_completed(),
    ActivationFailed: _activations_failed(),
    ActivationDeferred: _activations_deferred(),
    ProbeTopologyDeclared: _topologies_declared(),
    ProbeObservedFirst: _probes_observed_first(),
    ProbeResult: _probe_results(),
    ProbeFailureFirst: _probe_failures_first(),
    Failed: _failures(),
    RollbackComplete: rollbacks_complete(st.sampled_from((0, 1, -9))),
    Converged: _convergences(),
    Regressed: _regressions(),
    Recalled: _recalls(),
    Postponed: _postponements(),
}
_ANY: SearchStrategy[AgentEvent] = st.one_of(list(FACTS.values()))
