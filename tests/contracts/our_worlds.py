"""The worlds of our two appliers: real stores, and a machine that is a name."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import assert_never

from nixfleet_agent.engine import applier as agent_applier
from nixfleet_agent.engine.state import CommitBuilder as AgentCommitBuilder
from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.loading import load_state as load_agent_state
from nixfleet_agent.messages.inputs import (
    Action,
    CarryOut,
    Done,
    KeepManifestsOf,
    LoadChecks,
    ShowRefusal,
    StartProbes,
    StopProbes,
    WakeSender,
    WithdrawIntent,
)
from nixfleet_control_plane.engine import applier as control_plane_applier
from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import take_artefact
from nixfleet_control_plane.engine.record_flush import flush
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import UseKeys, WakeHost
from nixfleet_control_plane.messages.log_entry import ArtefactTaken, FactReported, Planned
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.codec import encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetChannel, FleetHost, FleetResolved, Meta, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.signing import artefact_hash
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
    RecordTransition,
)
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.rollout.event import RolloutOpened
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_testing.contracts.agent_applier import AgentWorld
from nixfleet_testing.contracts.control_plane_applier import (
    ControlPlaneWorld,
    HandedOut,
    LoggedFact,
)
from nixfleet_testing.contracts.histories import (
    CHANNEL,
    HOST,
    OTHER_HOST,
    POLICY,
    PRIOR,
    ROLLOUT,
    T0,
    TARGET,
)


class OurAgentWorld(AgentWorld):
    """Our agent's applier on a real journal. Its machine looks at what runs before it switches."""

    def __init__(self, record: HostRolloutState, directory: Path) -> None:
        self._path = directory / "journal.sqlite"
        self._running = PRIOR
        self._activations: list[str] = []
        self._probed: set[RolloutId] = set()
        self._metrics: list[EmitMetric] = []
        self._logs: list[EmitLog] = []
        self._journals: list[SqliteJournal] = []
        self.builder = AgentCommitBuilder()
        self.actions: list[Action] = []
        self.crash()
        self.state.put_rollout(self.builder, LocalRollout(record, POLICY))
        self.commit(record)

    def apply(self, effect: AgentEffect) -> None:
        agent_applier.apply(effect, self.state, self.builder, T0)

    def commit(self, record: HostRolloutState) -> None:
        self.state.put_record(self.builder, record)
        commit = self.builder.built(Done())
        self.journal.commit(commit.writes)
        self.state.undo.settle()
        self.actions += commit.actions
        self.builder = AgentCommitBuilder()

    def act(self) -> None:
        actions, self.actions = self.actions, []
        for action in actions:
            self._act(action)

    def crash(self) -> None:
        self.journal = SqliteJournal(self._path)
        self._journals.append(self.journal)
        self.state = load_agent_state(self.journal, HOST)
        self.builder = AgentCommitBuilder()
        # What the engine does when it boots.
        self.actions = [CarryOut(intent) for intent in self.state.intents.values()]

    def close(self) -> None:
        for journal in self._journals:
            journal.close()

    def _act(self, action: Action) -> None:
        match action:
            case CarryOut(intent):
                self.switch(intent.closure)
            case LoadChecks() | StartProbes():
                self._probed.add(action.rollout_id)
            case StopProbes():
                self._probed.discard(action.rollout_id)
            case EmitMetric():
                self._metrics.append(action)
            case EmitLog():
                self._logs.append(action)
            case WakeSender() | KeepManifestsOf() | WithdrawIntent() | ShowRefusal():
                pass
            case _:
                assert_never(action)

    def switch(self, closure: str) -> None:
        """Make `closure` run, unless it does."""
        if self._running != closure:
            self._activations.append(closure)
            self._running = closure

    def facts(self) -> Sequence[AgentEvent]:
        return [row.fact for row in self.journal.unsent(1_000)]

    def running(self) -> str:
        return self._running

    def activations(self) -> Sequence[str]:
        return self._activations

    def probed(self) -> Collection[RolloutId]:
        return self._probed

    def metrics(self) -> Sequence[EmitMetric]:
        return self._metrics

    def logs(self) -> Sequence[EmitLog]:
        return self._logs


class OurControlPlaneWorld(ControlPlaneWorld):
    """Our control plane's applier on a real store. A commit also writes the host records behind."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "control-plane.sqlite"
        self._transitions: list[RecordTransition] = []
        self._metrics: list[EmitMetric] = []
        self._logs: list[EmitLog] = []
        self._stores: list[SqliteStore] = []
        self.builder = CommitBuilder()
        self.crash()
        self._publish()
        self.commit()

    def _publish(self) -> None:
        fleet = encode_fleet(_fleet())
        manifest = encode_manifest(_manifest(artefact_hash(fleet)))
        for entry in (
            ArtefactTaken("fleet.resolved.json", None, fleet.decode(), "00" * 64, "ci"),
            ArtefactTaken(f"rollouts/{ROLLOUT}.json", ROLLOUT, manifest.decode(), "00" * 64, "ci"),
        ):
            take_artefact(self.state, self.builder, entry, T0)
        opened = OpenRollout(ROLLOUT, CHANNEL, ROLLOUT.channel_ref)
        seq = self.state.append(self.builder, Planned(opened), T0)
        record = open_rollout(RolloutOpened(ROLLOUT, CHANNEL, ROLLOUT.channel_ref, T0), seq, ())
        self.state.open_rollout(self.builder, record, self.state.manifests[ROLLOUT].terms)

    def apply(self, effect: ControlPlaneEffect) -> None:
        transition = control_plane_applier.apply(effect, self.state, self.builder, T0)
        if transition is not None:
            self._transitions.append(transition)

    def commit(self) -> None:
        commit = self.builder.built(flush(self.state, self.builder, 1_000))
        self.store.commit(self.builder.writes)
        self.state.undo.settle()
        for action in commit.actions:
            match action:
                case EmitMetric():
                    self._metrics.append(action)
                case EmitLog():
                    self._logs.append(action)
                case WakeHost() | UseKeys():
                    pass
                case _:
                    assert_never(action)
        self.builder = CommitBuilder()

    def crash(self) -> None:
        self.store = SqliteStore(self._path)
        self._stores.append(self.store)
        self.state = load_state(self.store)
        self.builder = CommitBuilder()

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def log(self) -> Sequence[LoggedFact]:
        reader = open_for_reading(self._path)
        try:
            entries = [logged.entry for logged in log_entries(reader)]
        finally:
            reader.close()
        return [
            LoggedFact(entry.host, entry.rollout_id, entry.fact)
            for entry in entries
            if isinstance(entry, FactReported)
        ]

    def dispatched(self, host: str) -> HandedOut | None:
        waiting = self.state.dispatches.get(host)
        return HandedOut(waiting[-1].target_closure, waiting[-1].soak_due_at) if waiting else None

    def quarantined(self, channel: str) -> Collection[str]:
        return self.state.quarantines.get(channel, ())

    def opened(self) -> Collection[tuple[RolloutId, str]]:
        return [
            (record.rollout_id, record.hostname) for record in self.state.view.hosts_of(ROLLOUT)
        ]

    def transitions(self) -> Sequence[RecordTransition]:
        return self._transitions

    def metrics(self) -> Sequence[EmitMetric]:
        return self._metrics

    def logs(self) -> Sequence[EmitLog]:
        return self._logs


def _fleet() -> FleetResolved:
    return FleetResolved(
        hosts=FrozenMap(
            {host: FleetHost(CHANNEL, closure_hash=TARGET) for host in (HOST, OTHER_HOST)}
        ),
        channels=FrozenMap({CHANNEL: FleetChannel("all-at-once")}),
        rollout_policies=FrozenMap({"all-at-once": POLICY}),
        waves=FrozenMap({CHANNEL: (Wave((HOST, OTHER_HOST)),)}),
        meta=Meta(T0),
    )


def _manifest(fleet_hash: str) -> RolloutManifest:
    return RolloutManifest(
        channel=CHANNEL,
        channel_ref=ROLLOUT.channel_ref,
        display_name=ROLLOUT,
        fleet_resolved_hash=fleet_hash,
        host_set=(HostAssignment(HOST, TARGET), HostAssignment(OTHER_HOST, TARGET)),
        meta=Meta(T0),
        rollout_policy=POLICY,
        wave_soak_minutes=(5,),
    )
