"""A fleet without a machine: the real engines and stores, told what happened by a script instead of a world.

Time is a number that `pass_time` adds to. What a closure does when it is switched to or probed is looked up in
`Behaviour`. Everything goes the way it goes in the services, only without tasks and sockets.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import field, frozen

from nixfleet_agent.activator import RollbackFinished, SwitchCompleted, SwitchOutcome
from nixfleet_agent.engine import AgentEngine
from nixfleet_agent.inputs import Action as AgentAction
from nixfleet_agent.inputs import (
    Booted,
    CarryOut,
    ChecksLoaded,
    DispatchOffered,
    EventRejected,
    EventsAcknowledged,
    IntentKind,
    LoadChecks,
    ProbeRan,
    ReplayAsked,
    RollbackEnded,
    StartProbes,
    StopProbes,
    SwitchEnded,
    SwitchStarted,
    Tick,
)
from nixfleet_agent.inputs import Input as AgentInput
from nixfleet_agent.inputs import Reply as AgentReply
from nixfleet_agent.journal import SqliteJournal
from nixfleet_agent.loading import load_state as load_agent_state
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome
from nixfleet_control_plane.engine import ControlPlaneEngine
from nixfleet_control_plane.inputs import (
    CommandOutcome,
    DispatchAnswer,
    DispatchPoll,
    FlushRecords,
    HostEvents,
    Input,
    ManifestsOutcome,
    ManifestsUpdated,
    OperatorCommand,
    PlanTick,
    Reply,
)
from nixfleet_control_plane.loading import load_state
from nixfleet_control_plane.queries import open_for_reading
from nixfleet_control_plane.rebuild import ViewsReport, check_chain, check_views
from nixfleet_control_plane.sqlite_store import SqliteStore
from nixfleet_control_plane.state import State
from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.codec import HealthCheckSet, encode_fleet, encode_manifest
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.signing import (
    SigningKey,
    artefact_hash,
    sign_artefact,
    verify_fleet,
    verify_manifest,
)
from nixfleet_proto.trust import KeySlot, TrustRoot, Verified
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.transport import EventRefused, EventsOutcome, ReplayFrom, RolloutUnknown
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.state import RolloutRecord

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
CHANNEL = "stable"
CHECKS = HealthCheckSet({"alive": ExecProbe(("bin/alive",))})
WEEK_MINUTES = 7 * 24 * 60


@frozen
class Behaviour:
    """What closures do: those not named here switch well and pass."""

    switch: Mapping[str, SwitchOutcome] = field(factory=dict)
    rollback: Mapping[str, RollbackFinished] = field(factory=dict)
    probe: Mapping[str, ProbeOutcome] = field(factory=dict)


@frozen
class Layout:
    """Who is in which wave, under which policy."""

    waves: tuple[tuple[str, ...], ...] = (("web-01",), ("web-02", "web-03"))
    soak_minutes: int = 5
    max_in_flight: int | None = None
    edges: tuple[Edge, ...] = ()
    on_health_failure: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for wave in self.waves for host in wave)


class Agent:
    """One host: its engine, its journal, and what the script says its machine does."""

    def __init__(self, fleet: "SmallFleet", hostname: str, path: Path) -> None:
        self.hostname = hostname
        self.running = "release-0"
        self.is_cut_off = False
        self.probed: set[RolloutId] = set()
        self._fleet = fleet
        self._path = path
        self.start()

    def start(self) -> None:
        """Start, or start again after a crash: what is not in the journal is gone."""
        self.journal = SqliteJournal(self._path)
        self.state = load_agent_state(self.journal, self.hostname)
        self.engine = AgentEngine(self.state)
        self.probed.clear()
        self.tell(Booted(self.running))

    def tell(self, input: AgentInput) -> AgentReply:
        """Put `input` to the engine, make it durable, and let what follows happen at once."""
        commit = self.engine.handle(input, self._fleet.now)
        self.journal.commit(commit.writes)
        self.engine.settle()
        for action in commit.actions:
            self._act(action)
        return commit.reply

    def _act(self, action: AgentAction) -> None:
        match action:
            case CarryOut(intent):
                if intent.kind is IntentKind.SWITCH:
                    self.tell(SwitchStarted(intent.intent_id, "directory"))
                    self.tell(SwitchEnded(intent.intent_id, self._switch(intent.closure)))
                else:
                    outcome = self._fleet.behaviour.rollback.get(intent.closure)
                    outcome = outcome or RollbackFinished(intent.closure, 0)
                    self.running = outcome.current_closure
                    self.tell(RollbackEnded(intent.intent_id, outcome))
            case LoadChecks(rollout_id):
                self.tell(ChecksLoaded(rollout_id, CHECKS))
            case StartProbes(rollout_id):
                self.probed.add(rollout_id)
            case StopProbes(rollout_id):
                self.probed.discard(rollout_id)
            case _:
                pass

    def _switch(self, closure: str) -> SwitchOutcome:
        outcome = self._fleet.behaviour.switch.get(closure, SwitchCompleted(closure, 0))
        if isinstance(outcome, SwitchCompleted):
            self.running = outcome.current_closure
        return outcome

    def probe(self) -> None:
        """Every probe that is to run runs once."""
        outcome = self._fleet.behaviour.probe.get(self.running, PASSED)
        for rollout_id in sorted(self.probed):
            for name in CHECKS:
                self.tell(ProbeRan(rollout_id, name, outcome))

    def record(self, rollout_id: RolloutId) -> HostRolloutState:
        return self.state.rollouts[rollout_id].record


class SmallFleet:
    """A control plane and its agents, at one time."""

    def __init__(self, directory: Path, layout: Layout | None = None) -> None:
        self.layout = layout or Layout()
        self.now = START
        self.behaviour = Behaviour()
        self._directory = directory
        self._key = SigningKey.generate()
        self.trust = TrustRoot(KeySlot(self._key.public_key))
        self.manifests: dict[RolloutId, Verified[RolloutManifest]] = {}
        self.start_control_plane()
        self.agents = {
            host: Agent(self, host, directory / f"{host}.sqlite") for host in self.layout.hosts
        }

    # The control plane.

    @property
    def database(self) -> Path:
        return self._directory / "control-plane.sqlite"

    def start_control_plane(self) -> None:
        """Start, or start again after a crash."""
        self.store = SqliteStore(self.database)
        self.state: State = load_state(self.store)
        self.engine = ControlPlaneEngine(self.state)

    def destroy_control_plane(self) -> None:
        """Lose the database, and start on an empty one."""
        self.store.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        self.start_control_plane()

    def ask(self, *inputs: Input) -> tuple[Reply, ...]:
        """Put `inputs` to the engine as one batch, and return the replies once they are durable."""
        commits = [self.engine.handle(input, self.now) for input in inputs]
        self.store.commit([write for commit in commits for write in commit.writes])
        self.engine.settle()
        return tuple(commit.reply for commit in commits)

    def command(self, command: OperatorCommand) -> CommandOutcome:
        (reply,) = self.ask(command)
        assert isinstance(reply, CommandOutcome)
        return reply

    # Releases.

    def publish(self, channel_ref: str) -> RolloutId:
        """Sign and publish a release in which every host gets `{channel_ref}-{host}`."""
        fleet, manifest = self.signed(channel_ref)
        (reply,) = self.ask(ManifestsUpdated(fleet, (manifest,)))
        assert isinstance(reply, ManifestsOutcome), reply
        assert reply.refused == (), reply
        self.manifests[manifest.value.rollout_id] = manifest
        return manifest.value.rollout_id

    def signed(
        self, channel_ref: str
    ) -> tuple[Verified[FleetResolved], Verified[RolloutManifest]]:
        fleet = self._fleet_of(channel_ref)
        fleet_body = encode_fleet(fleet)
        manifest = self._manifest_of(channel_ref, artefact_hash(fleet_body))
        return (
            verify_fleet(
                sign_artefact(fleet_body, self._key),
                self.trust,
                self.now,
                freshness_window_minutes=WEEK_MINUTES,
            ),
            verify_manifest(
                sign_artefact(encode_manifest(manifest), self._key),
                self.trust,
                self.now,
                freshness_window_minutes=WEEK_MINUTES,
                expected_rollout_id=manifest.rollout_id,
            ),
        )

    def _fleet_of(self, channel_ref: str) -> FleetResolved:
        layout = self.layout
        return FleetResolved(
            hosts=FrozenMap(
                {
                    host: FleetHost(CHANNEL, closure_hash=f"{channel_ref}-{host}")
                    for host in layout.hosts
                }
            ),
            channels=FrozenMap({CHANNEL: FleetChannel("canary-first")}),
            rollout_policies=FrozenMap({"canary-first": RolloutPolicy(layout.on_health_failure)}),
            waves=FrozenMap(
                {CHANNEL: tuple(Wave(hosts, layout.soak_minutes) for hosts in layout.waves)}
            ),
            meta=Meta(self.now),
            edges=layout.edges,
            disruption_budgets=self._budgets(),
        )

    def _budgets(self) -> tuple[DisruptionBudget, ...]:
        if self.layout.max_in_flight is None:
            return ()
        return (DisruptionBudget(Selector(all=True), self.layout.max_in_flight),)

    def _manifest_of(self, channel_ref: str, fleet_hash: str) -> RolloutManifest:
        layout = self.layout
        return RolloutManifest(
            channel=CHANNEL,
            channel_ref=channel_ref,
            display_name=f"{CHANNEL}@{channel_ref}",
            fleet_resolved_hash=fleet_hash,
            host_set=tuple(
                HostAssignment(host, f"{channel_ref}-{host}", index)
                for index, wave in enumerate(layout.waves)
                for host in wave
            ),
            meta=Meta(self.now),
            rollout_policy=RolloutPolicy(layout.on_health_failure),
            wave_soak_minutes=tuple(layout.soak_minutes for _ in layout.waves),
            disruption_budgets=tuple(
                ManifestBudget(budget.selector, layout.hosts, budget.max_in_flight)
                for budget in self._budgets()
            ),
        )

    # Life.

    def pass_time(self, minutes: float) -> None:
        """Let time pass, in steps of half a minute, and everybody do what they do."""
        until = self.now + timedelta(minutes=minutes)
        while self.now < until:
            self.now += timedelta(seconds=30)
            self.turn()

    def turn(self) -> None:
        """Everybody does once what they do regularly."""
        for agent in self.agents.values():
            agent.probe()
            agent.tell(Tick())
            if not agent.is_cut_off:
                self.send(agent)
                self.poll(agent)
                self.send(agent)
        self.ask(PlanTick(), FlushRecords(100))

    def poll(self, agent: Agent) -> None:
        """The host asks for its dispatch, and is offered it with the manifest."""
        (answer,) = self.ask(DispatchPoll(agent.hostname))
        assert isinstance(answer, DispatchAnswer)
        dispatch = answer.dispatch
        if dispatch is not None:
            manifest = self.manifests[RolloutId(dispatch.rollout_id)]
            agent.tell(DispatchOffered(dispatch, manifest, agent.running))

    def send(self, agent: Agent) -> None:
        """The host sends what it has to say, until there is nothing or it is stopped."""
        while rows := agent.journal.unsent(256):
            of_first = [row for row in rows if row.rollout_id == rows[0].rollout_id]
            envelopes = tuple(
                AgentEventEnvelope(agent.hostname, row.rollout_id, row.fact) for row in of_first
            )
            (outcome,) = self.ask(HostEvents(agent.hostname, envelopes))
            assert isinstance(outcome, EventsOutcome)
            accepted = tuple(row.row_id for row in of_first[: outcome.accepted])
            agent.tell(EventsAcknowledged(accepted))
            match outcome.stopped_by:
                case EventRefused() as refusal:
                    agent.tell(EventRejected(of_first[outcome.accepted].row_id, refusal))
                case ReplayFrom() as replay:
                    agent.tell(ReplayAsked(replay))
                case RolloutUnknown():
                    return
                case None:
                    pass

    # What came of it.

    def rollout(self, rollout_id: RolloutId) -> RolloutRecord:
        return self.state.view.rollouts[rollout_id]

    def mirrored(self, rollout_id: RolloutId, hostname: str) -> HostRolloutState:
        record = self.state.view.host(rollout_id, hostname)
        assert record is not None, (rollout_id, hostname)
        return record

    def states(self, rollout_id: RolloutId) -> dict[str, HostState]:
        return {host: self.mirrored(rollout_id, host).state for host in self.layout.hosts}

    def check_store(self) -> ViewsReport:
        """Return how the stored views compare with the log, after checking the chain."""
        connection = open_for_reading(self.database)
        try:
            chain = check_chain(connection)
            assert chain.problem is None, chain
            return check_views(connection)
        finally:
            connection.close()
