"""A fleet without a machine: the real engines and stores, told what happened by a script instead of a world.

Time is a number that `pass_time` adds to. What a closure does when it is switched to or probed is looked up in
`Behaviour`. Everything goes the way it goes in the services, only without tasks and sockets.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from attrs import field, frozen

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted, SwitchEnd
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_agent.journal.loading import load_state as load_agent_state
from nixfleet_agent.messages.inputs import Action as AgentAction
from nixfleet_agent.messages.inputs import (
    Booted,
    CarryOut,
    ChecksLoaded,
    DispatchOffered,
    EventRejected,
    EventsAcknowledged,
    Intent,
    IntentBegun,
    IntentKind,
    LoadChecks,
    ProbeRan,
    RecordBootstrapped,
    ReplayAsked,
    RollbackEnded,
    StartProbes,
    StopProbes,
    SwitchEnded,
    SwitchStarted,
    Tick,
)
from nixfleet_agent.messages.inputs import Input as AgentInput
from nixfleet_agent.messages.inputs import Reply as AgentReply
from nixfleet_agent.probes.runner import PASSED, ProbeOutcome
from nixfleet_control_plane.messages.inputs import FlushRecords, PlanTick
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import Verified
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefused,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)
from nixfleet_state_machine.host.state import HostRolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout

CHECKS = HealthCheckSet({"alive": ExecProbe(("bin/alive",))})


@frozen
class Behaviour:
    """What closures do: those not named here switch well and pass."""

    switch: Mapping[str, SwitchEnd] = field(factory=dict)
    rollback: Mapping[str, RollbackFinished] = field(factory=dict)
    probe: Mapping[str, ProbeOutcome] = field(factory=dict)


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
        """Start: what is not in the journal is not known."""
        self.journal = SqliteJournal(self._path)
        self.state = load_agent_state(self.journal, self.hostname)
        self.engine = AgentEngine(self.state)
        self.probed.clear()
        self.tell(Booted(self.running))

    def restart(self) -> None:
        """Crash, and start again."""
        self.journal.close()
        self.start()

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
                self.take_on(intent)
            case LoadChecks(rollout_id):
                self.tell(ChecksLoaded(rollout_id, CHECKS))
            case StartProbes(rollout_id):
                self.probed.add(rollout_id)
            case StopProbes(rollout_id):
                self.probed.discard(rollout_id)
            case _:
                pass

    def take_on(self, intent: Intent) -> None:
        """Do what was decided, at once."""
        self.carry_out(intent)

    def carry_out(self, intent: Intent) -> None:
        """Do what was decided, from beginning to end."""
        self.tell(IntentBegun(intent.intent_id))
        if intent.kind is IntentKind.SWITCH:
            self.tell(SwitchStarted(intent.intent_id, "directory"))
            self.tell(SwitchEnded(intent.intent_id, self._switch(intent.closure)))
        else:
            outcome = self._fleet.behaviour.rollback.get(intent.closure)
            outcome = outcome or RollbackFinished(intent.closure, 0)
            self.running = outcome.current_closure
            self.tell(RollbackEnded(intent.intent_id, outcome))

    def _switch(self, closure: str) -> SwitchEnd:
        if self.running == closure:
            return SwitchCompleted(closure, 0)
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


class SmallFleet(ScriptedControlPlane):
    """A control plane and its agents, at one time."""

    def __init__(self, directory: Path, layout: Layout | None = None) -> None:
        super().__init__(directory, layout)
        self.behaviour = Behaviour()
        self.agents = {
            host: self.made_agent(host, directory / f"{host}.sqlite") for host in self.layout.hosts
        }

    def made_agent(self, hostname: str, path: Path) -> Agent:
        """Return the agent of a host."""
        return Agent(self, hostname, path)

    def close(self) -> None:
        """Let go of all databases."""
        super().close()
        for agent in self.agents.values():
            agent.journal.close()

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
        dispatch = self.dispatch_of(agent.hostname)
        if dispatch is not None:
            manifest = self.manifest_of(RolloutId(dispatch.rollout_id))
            agent.tell(DispatchOffered(dispatch, manifest, agent.running))

    def send(self, agent: Agent) -> None:
        """The host sends what it has to say, until there is nothing or it is stopped."""
        while rows := agent.journal.unsent(256):
            of_first = [row for row in rows if row.rollout_id == rows[0].rollout_id]
            facts = [row.fact for row in of_first]
            outcome = self.hear(agent.hostname, rows[0].rollout_id, *facts)
            accepted = tuple(row.row_id for row in of_first[: outcome.accepted])
            agent.tell(EventsAcknowledged(accepted))
            match outcome.stopped_by:
                case EventRefused() as refusal:
                    agent.tell(EventRejected(of_first[outcome.accepted].row_id, refusal))
                case ReplayFrom() as replay:
                    agent.tell(ReplayAsked(replay))
                case RolloutUnknown():
                    return
                case SeqForked() | EventEarly() | HostHeld():
                    raise AssertionError(outcome)
                case None:
                    pass

    def compare(self, agent: Agent) -> None:
        """The host sends a heartbeat and takes home what it is answered."""
        reply = self.heartbeat(agent.hostname, dict(agent.journal.last_seqs()))
        for replay in reply.replay_from:
            agent.tell(ReplayAsked(replay))
        for record in reply.bootstrap_rollouts:
            agent.tell(RecordBootstrapped(record, self.manifest_of(record.rollout_id)))

    def manifest_of(self, rollout_id: RolloutId) -> Verified[RolloutManifest]:
        """Return the manifest as the host fetches it."""
        (manifest,) = self.released[rollout_id].manifests
        return manifest
