"""How a host stands by its journal: what runs, what should run, and what that waits for. Pure.

The journal knows what its host reported. What an agent's process keeps to itself is not in it: why a closure is not
here yet, and what its lock said before the latest fact about it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, assert_never

from attrs import frozen

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import JournalSnapshot
from nixfleet_agent.journal.queries import LivedFact
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_cli.shared.output import shown_time
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    Postponed,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
)
from nixfleet_runtime.fact_words import short
from nixfleet_state_machine.host.state import HostRolloutState, HostState


@frozen
class ProbeStanding:
    """The latest result of a probe, and since when it has been the same."""

    name: str
    mode: ProbeMode
    status: ProbeStatus
    since: datetime
    reason: str | None


@frozen
class Stage:
    """What a host reached in a rollout, and when. name: completes "the host was …"."""

    name: str
    at: datetime


@frozen
class Standing:
    """What a host is about. rollout: the newest one that was not superseded. runs: the closure, as reported last.

    waits_for: what stands between what runs and what should run, in words; `None`: nothing does.
    """

    rollout: LocalRollout
    runs: str | None
    waits_for: str | None
    probes: tuple[ProbeStanding, ...]
    stages: tuple[Stage, ...]


def standing_of(snapshot: JournalSnapshot, lived: Iterable[LivedFact]) -> Standing | None:
    """Return how the host stands; `None` if it was never dispatched. lived: the facts of the journal, in order."""
    rollout = _newest(snapshot.rollouts)
    if rollout is None:
        return None
    rollout_id = rollout.record.rollout_id
    facts = [each for each in lived if each.rollout_id == rollout_id]
    under_way = [each for each in snapshot.intents if each.rollout_id == rollout_id]
    probes = tuple(_probes(facts))
    return Standing(
        rollout,
        _running(snapshot.rollouts),
        _waits_for(rollout.record, under_way, facts, probes),
        probes,
        tuple(_stages(rollout.record)),
    )


def _newest(rollouts: Sequence[LocalRollout]) -> LocalRollout | None:
    """Return the one that is not superseded; of several, or of none such, the one that was dispatched last."""
    current = [each for each in rollouts if each.closed_at is None] or rollouts
    return max(current, key=lambda each: str(each.record.dispatched_at), default=None)


def _running(rollouts: Sequence[LocalRollout]) -> str | None:
    """Return the closure that the latest report names: a rollout that has not begun says nothing of it."""
    newest_first = sorted(rollouts, key=lambda each: str(each.record.dispatched_at), reverse=True)
    return next(filter(None, (_reported(each.record) for each in newest_first)), None)


def _reported(record: HostRolloutState) -> str | None:
    if record.state is HostState.REVERTED:
        return record.reverted_to
    return record.current_closure or record.current_closure_at_dispatch


def _waits_for(
    record: HostRolloutState,
    under_way: Sequence[Intent],
    facts: Sequence[LivedFact],
    probes: Sequence[ProbeStanding],
) -> str | None:
    state = record.state
    match state:
        case HostState.PENDING:
            return _lock(facts) or "the dispatch, which is not acknowledged yet"
        case HostState.ACTIVATING:
            return _switch(record, under_way)
        case HostState.DEFERRED:
            return "a reboot, at which the switch takes place"
        case HostState.SOAKING:
            return _soak(record, probes)
        case HostState.CONVERGED:
            return None
        case HostState.FAILED:
            if record.is_rolling_back:
                prior = short(record.current_closure_at_dispatch or "")
                return f"the rollback to {prior}, as it has failed"
            return f"an operator or another release, as it has failed (policy: {record.policy_applied})"
        case HostState.REVERTED:
            return "an operator or another release, as it has failed and rolled back"
        case _:
            assert_never(state)


def _lock(facts: Sequence[LivedFact]) -> str | None:
    said = [each.fact for each in facts if isinstance(each.fact, Postponed)]
    if not said or said[-1].is_over:
        return None
    return f"its own lock, until {shown_time(said[-1].until)}: {said[-1].reason}"


def _switch(record: HostRolloutState, under_way: Sequence[Intent]) -> str:
    switch = next((each for each in under_way if each.kind is IntentKind.SWITCH), None)
    if switch is None or not switch.attempts:
        return "the switch to begin: its closure is not here, or another switch is under way"
    since = record.activation_started_at
    again = f", begun {switch.attempts} times" if switch.attempts > 1 else ""
    return "the end of the switch" + (f" since {shown_time(since)}" if since else "") + again


def _soak(record: HostRolloutState, probes: Sequence[ProbeStanding]) -> str:
    failing = [
        f"probe {each.name}, which fails since {shown_time(each.since)}"
        for each in probes
        if each.mode is ProbeMode.ENFORCE and each.status is ProbeStatus.FAIL
    ]
    known = {each.name for each in probes}
    missing = [
        f"the first result of probe {each.probe_name}"
        for each in record.declared_probes or ()
        if each.mode is ProbeMode.ENFORCE and each.probe_name not in known
    ]
    soak = (
        [] if record.soak_due_at is None else [f"the soak until {shown_time(record.soak_due_at)}"]
    )
    return "; ".join([*failing, *missing, *soak]) or "its convergence"


def _probes(facts: Iterable[LivedFact]) -> Iterator[ProbeStanding]:
    """Yield the probes by name, of the closure that was switched to last."""
    probes: dict[str, ProbeStanding] = {}
    for lived in facts:
        fact = lived.fact
        if isinstance(fact, ActivationCompleted):
            probes.clear()
        if not isinstance(fact, ProbeResult):
            continue
        before = probes.get(fact.probe_name)
        is_same = before is not None and before.status is fact.status
        since = before.since if before is not None and is_same else fact.observed_at
        probes[fact.probe_name] = ProbeStanding(
            fact.probe_name, fact.mode, fact.status, since, fact.failure_reason
        )
    yield from (probes[name] for name in sorted(probes))


_STAGES: Final = (
    ("dispatched", "dispatched_at"),
    ("acknowledged", "dispatch_acked_at"),
    ("switching", "activation_started_at"),
    ("switched", "activation_completed_at"),
    ("deferred", "deferred_at"),
    ("first probed", "probe_observed_first_at"),
    ("first failing a probe", "probe_failure_first_at"),
    ("converged", "converged_at"),
    ("failed", "failed_at"),
    ("rolled back", "reverted_at"),
)


def _stages(record: HostRolloutState) -> Iterator[Stage]:
    """Yield what was reached, in the order of time."""
    reached = [(name, at) for name, field in _STAGES if (at := getattr(record, field)) is not None]
    yield from (Stage(name, at) for name, at in sorted(reached, key=lambda each: each[1]))
