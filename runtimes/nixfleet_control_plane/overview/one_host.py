"""One host, whole: its records, the gates that hold it with what frees each, its moments, probes and failure.

O(hosts) as `explain` is: it names who is waited for. Pure functions.
Source: docs/spec/overview.md, One host.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import assert_never

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.log_entry import FactsReported, LoggedEntry
from nixfleet_control_plane.overview.words import minute, shown_time
from nixfleet_control_plane.store.queries import Waiting
from nixfleet_proto.agent_event import ActivationFailed, AgentEvent, Failed, Regressed
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.host_pages import (
    HostRecordPage,
    Moment,
    MomentKind,
    ShownFailure,
    ShownGate,
    ShownProbe,
)
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.host_status import HostInRollout
from nixfleet_state_machine.rollout.state import RolloutState, Standing


def host_record_page(
    state: State,
    status: HostInRollout,
    record: HostRolloutState,
    waiting: Sequence[Waiting],
    facts: Sequence[AgentEvent],
    rows: tuple[ListedRow, ...],
) -> HostRecordPage:
    """Return a host in one rollout. waiting: why it is held, as it is stored. facts: its latest ones, newest first."""
    since_of = {
        Gate(each.gate): each.since for each in waiting if each.rollout_id == status.rollout_id
    }
    return HostRecordPage(
        rollout_id=status.rollout_id,
        headline=_headline(status, record),
        state=record.state,
        standing=status.standing,
        attempt=status.attempt,
        attempts=status.attempts,
        should_run=record.target_closure,
        is_drifted=status.drift is not None,
        last_event_seq=record.last_event_seq,
        gates=tuple(
            _gate(state, status.rollout_id, record, block, since_of) for block in status.gates
        ),
        moments=tuple(sorted(_moments(record), key=lambda moment: moment.at)),
        probes=tuple(_probes(record)),
        rows=rows,
        wave=status.wave,
        since=status.since,
        until=status.until,
        runs=record.current_closure if status.drift is None else status.drift.running,
        ran_before=record.current_closure_at_dispatch,
        reverted_to=record.reverted_to,
        failure=_failure(record, facts) if record.has_failed else None,
    )


def facts_in(entries: Sequence[LoggedEntry]) -> Iterator[AgentEvent]:
    """Yield the facts of rows about a host, the newest first. entries: likewise."""
    for logged in entries:
        if isinstance(logged.entry, FactsReported):
            yield from reversed(logged.entry.facts)


def freed_by(state: State, rollout_id: RolloutId, block: GateBlock) -> str:
    """Return what ends that a gate holds a host, a sentence."""
    if block.until is not None and block.gate is not Gate.OPERATOR_HOLD:
        return f"It ends by itself at {minute(block.until)}, if nothing else holds it then."
    match block.gate:
        case Gate.QUARANTINE:
            return "Another closure is released, or an operator retires the quarantine."
        case Gate.ROLLOUT_HALTED:
            if state.view.rollouts[rollout_id].state is RolloutState.ABORTED:
                return "Another ref is released on the channel."
            return "An operator clears the rollout, or a repaired closure is released."
        case Gate.OPERATOR_HOLD:
            end = "" if block.until is None else f", at {minute(block.until)} at the latest"
            return f"Every hold on it is lifted or ends{end}."
        case Gate.CHANNEL_EDGES:
            return "The rollout of the channel that it waits for is done."
        case Gate.WAVE_PROMOTION:
            return "The wave before is done, and the guards of its own let it begin."
        case Gate.WAVE_PROMOTION_HOST_UNSTAGED:
            return "A declaration with a wave that selects the host is released."
        case Gate.HOST_EDGE:
            return "The hosts that it waits for converge, or an operator excuses them."
        case Gate.DISRUPTION_BUDGET:
            return "A host under the same budget is done, and gives its slot back."
        case Gate.COMPLIANCE_WAVE:
            return "The failing probes of hosts of earlier waves pass."
        case Gate.PROBE_TOPOLOGY:
            return "The hosts of earlier waves declare their probes."
        case _:
            assert_never(block.gate)


def _headline(status: HostInRollout, record: HostRolloutState) -> str:
    since = "" if status.since is None else f" since {shown_time(status.since)}"
    counts = "" if status.standing is Standing.COUNTED else f", and counts as {status.standing}"
    attempt = f" (attempt {status.attempt} of {status.attempts})" if status.attempts > 1 else ""
    return f"{record.hostname} is {record.state}{since}{attempt}{counts}."


def _gate(
    state: State,
    rollout_id: RolloutId,
    record: HostRolloutState,
    block: GateBlock,
    since_of: Mapping[Gate, datetime],
) -> ShownGate:
    since = since_of.get(block.gate)
    if since is None and block.gate is Gate.QUARANTINE:
        since = state.quarantined_at.get((record.channel, record.target_closure))
    if since is None and block.gate is Gate.OPERATOR_HOLD:
        holds = state.view.holds_on(rollout_id, record.hostname)
        since = min((it.since for it in holds if it.since is not None), default=None)
    return ShownGate(
        block.gate,
        block.reason,
        freed_by(state, rollout_id, block),
        block.detail,
        since,
        block.until,
    )


def _moments(record: HostRolloutState) -> Iterator[Moment]:
    # Before its switch a host has an earliest end, too, but nothing soaks.
    has_switched = record.activation_completed_at is not None
    times = {
        MomentKind.DISPATCHED: record.dispatched_at,
        MomentKind.ACKNOWLEDGED: record.dispatch_acked_at,
        MomentKind.SWITCH_BEGAN: record.activation_started_at,
        MomentKind.SWITCHED: record.activation_completed_at,
        MomentKind.SWITCH_FAILED: record.activation_failed_at,
        MomentKind.DEFERRED: record.deferred_at,
        MomentKind.FIRST_PROBE: record.probe_observed_first_at,
        MomentKind.FIRST_PROBE_FAILURE: record.probe_failure_first_at,
        MomentKind.SOAK_ENDS: soak_end_of(record) if has_switched else None,
        MomentKind.CONVERGED: record.converged_at,
        MomentKind.FAILED: record.failed_at,
        MomentKind.REVERTED: record.reverted_at,
    }
    for kind, at in times.items():
        if at is not None:
            yield Moment(kind, at)


def _probes(record: HostRolloutState) -> Iterator[ShownProbe]:
    declared = {entry.probe_name: entry for entry in record.declared_probes or ()}
    for name in sorted({*declared, *record.probes}):
        entry, probe = declared.get(name), record.probes.get(name)
        kind = None if entry is None else entry.kind
        if probe is None:
            yield ShownProbe(name, kind, None if entry is None else entry.mode)
        else:
            yield ShownProbe(
                name,
                kind,
                probe.mode,
                probe.status,
                probe.last_observed_at,
                probe.last_pass_at,
                probe.failing_since,
                probe.failure_reason,
            )


def _failure(record: HostRolloutState, facts: Sequence[AgentEvent]) -> ShownFailure:
    """Return why the host failed: by its own report, if that is among the facts, else by its record."""
    for fact in facts:
        match fact:
            case ActivationFailed():
                text = f"the switch failed with exit code {fact.exit_code}"
                return ShownFailure(text, fact.failed_at, fact.exit_code, fact.stderr_tail)
            case Failed() | Regressed():
                names = ", ".join(fact.failing_probes)
                verb = "regressed" if isinstance(fact, Regressed) else "did not become healthy"
                why = f": {names} failed" if names else ""
                return ShownFailure(f"it {verb}{why}", record.failed_at)
            case _:
                pass
    if record.activation_failed_at is not None:
        return ShownFailure("the switch failed", record.activation_failed_at)
    failing = ", ".join(sorted(name for name, it in record.probes.items() if it.failing_since))
    return ShownFailure(f"{failing} failed" if failing else "it failed", record.failed_at)
