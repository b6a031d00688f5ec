"""Turns what became durable on both sides into lines of a `FleetTrace`. The simulated fleet's judge sees it too."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from nixfleet_agent.messages.inputs import Action as AgentAction
from nixfleet_agent.messages.inputs import (
    CarryOut,
    KeepManifestsOf,
    LoadChecks,
    ShowRefusal,
    StartProbes,
    StopProbes,
    WakeSender,
    WithdrawIntent,
)
from nixfleet_agent.messages.writes import AppendEvent, PutRecord
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    Deferred,
    FactRefused,
    FactReported,
    Line,
    LogRow,
    Planned,
    RolloutMoved,
    lines_of,
)
from nixfleet_control_plane.messages.writes import (
    ClearProbeFailure,
    OpenProbeFailure,
    PutDispatch,
    PutQuarantine,
    PutRollout,
    RemoveDispatch,
    RemoveHostRecords,
    RetireQuarantineRow,
    Write,
)
from nixfleet_proto.agent_event import AgentEvent, ProbeResult, ProbeStatus
from nixfleet_simulation.judge.checker import Checker
from nixfleet_simulation.judge.recorder import Recorder
from nixfleet_simulation.nodes.control_plane import HandledInput
from nixfleet_simulation.nodes.host.process import HandledInput as HandledByHost
from nixfleet_simulation.nodes.host.process import MachineSeen
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import CONTROL_PLANE
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.fleet_in_memory.brief import brief
from nixfleet_testing.fleet_in_memory.trace import FleetTrace, Kind


class FleetRecorder(Recorder):
    """A watcher of both sides: the simulated fleet's recorder, which also writes `trace`."""

    def __init__(self, story: Trace, checker: Checker, trace: FleetTrace) -> None:
        super().__init__(story, checker)
        self._story = story
        self._fleet_trace = trace
        self._probes: dict[tuple[str, str, str], ProbeStatus] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._moves: dict[tuple[str, str], str] = {}
        self._rollouts: dict[str, str] = {}

    # Hosts.

    def agent_kept(
        self, hostname: str, handled: Sequence[HandledByHost], machine: MachineSeen
    ) -> None:
        """Append the facts and effects of these inputs."""
        for each in handled:
            for write in each.commit.writes:
                if isinstance(write, AppendEvent):
                    self._fact(hostname, write)
                elif isinstance(write, PutRecord):
                    self._record(hostname, write.record)
            for action in each.commit.actions:
                self._action(hostname, action)
        super().agent_kept(hostname, handled, machine)

    def _fact(self, hostname: str, write: AppendEvent) -> None:
        fact = write.fact
        what = f"{fact.seq} {write.rollout_id} {brief(fact)}"
        move = self._moves.pop((hostname, str(write.rollout_id)), None)
        routine = move is None and self._is_routine(hostname, write.rollout_id, fact)
        self._add(
            hostname, Kind.FACT, what if move is None else f"{what} => {move}", routine=routine
        )

    def _is_routine(self, hostname: str, rollout_id: str, fact: AgentEvent) -> bool:
        if not isinstance(fact, ProbeResult):
            return False
        key = hostname, rollout_id, fact.probe_name
        before = self._probes.get(key)
        self._probes[key] = fact.status
        return before is fact.status

    def _record(self, hostname: str, record: HostRolloutState) -> None:
        """The record is written before the fact that moved it."""
        key = hostname, str(record.rollout_id)
        before, self._states[key] = self._states.get(key), record.state.value
        if before not in (None, record.state.value):
            self._moves[key] = record.state.value

    def _action(self, hostname: str, action: AgentAction) -> None:
        match action:
            case CarryOut():
                intent = action.intent
                what = f"CarryOut {intent.kind} to {intent.closure}"
                self._add(hostname, Kind.EFFECT, what)
            case WithdrawIntent():
                self._add(
                    hostname,
                    Kind.EFFECT,
                    f"Withdraw {action.intent.kind} to {action.intent.closure}",
                )
            case LoadChecks() | StopProbes():
                self._add(hostname, Kind.EFFECT, brief(action))
            case StartProbes():
                probes = ", ".join(action.checks)
                self._add(hostname, Kind.EFFECT, f"StartProbes {action.rollout_id} {probes}")
            case EmitLog():
                self._add(hostname, Kind.EFFECT, brief(action))
            case WakeSender() | KeepManifestsOf() | ShowRefusal() | EmitMetric():
                pass  # They follow every fact, and are of no use to a reader.
            case _:
                assert_never(action)

    # The control plane.

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """Append the log rows and effects of these inputs."""
        for each in handled:
            for write in each.commit.writes:
                if isinstance(write, LogRow):
                    self._row(write)
                else:
                    self._view(write)
            for action in each.commit.actions:
                if isinstance(action, EmitLog):
                    self._add(CONTROL_PLANE, Kind.EFFECT, brief(action))
        super().control_plane_kept(handled, state)

    def control_plane_started(self, state: State, at: datetime) -> None:
        """Append that a control plane started, and what it knows."""
        self._add(CONTROL_PLANE, Kind.ACT, f"starts with {state.head_seq} log rows")
        super().control_plane_started(state, at)

    def _row(self, row: LogRow) -> None:
        for line in lines_of(entry_of(row)):
            self._line(row.seq, line.entry)

    def _line(self, seq: int, entry: Line) -> None:
        match entry:
            case FactReported():
                what = f"{seq} {entry.host} {entry.rollout_id} {entry.fact.seq}"
                self._add(CONTROL_PLANE, Kind.ROW, what, routine=True)
                return
            case FactRefused():
                what = (
                    f"FactRefused {entry.host} {entry.rollout_id} {entry.fact.seq}: {entry.reason}"
                )
            case RolloutMoved():
                what = brief(entry.event)
            case Planned() | Deferred():
                what = brief(entry.action)
            case Commanded():
                what = brief(entry.command)
            case ArtefactTaken():
                what = f"ArtefactTaken {entry.name.partition('#')[0]}"
            case _:
                what = brief(entry)
        self._add(CONTROL_PLANE, Kind.ROW, f"{seq} {what}")

    def _view(self, write: Write) -> None:
        match write:
            case PutRollout():
                record = write.record
                now = f"{record.state} in wave {record.current_wave}"
                before = self._rollouts.get(record.rollout_id)
                self._rollouts[record.rollout_id] = now
                if before != now:
                    what = f"PutRollout {record.rollout_id} is {now}"
                    self._add(CONTROL_PLANE, Kind.EFFECT, what)
            case PutDispatch():
                dispatch = write.dispatch
                what = f"PutDispatch {dispatch.hostname} {dispatch.rollout_id}"
                self._add(CONTROL_PLANE, Kind.EFFECT, what)
            case (
                PutQuarantine()
                | RetireQuarantineRow()
                | RemoveDispatch()
                | OpenProbeFailure()
                | ClearProbeFailure()
                | RemoveHostRecords()
            ):
                self._add(CONTROL_PLANE, Kind.EFFECT, brief(write))
            case _:
                pass  # Each of the others has a row of its own, or is the cache of host records.

    def _add(self, who: str, kind: Kind, what: str, *, routine: bool = False) -> None:
        self._fleet_trace.add(self._story.now, who, kind, what, routine=routine)
