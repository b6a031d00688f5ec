"""One host whose agent dies wherever a fuse says: between deciding and writing, writing and doing, doing and telling.

The engines, the journal and the store are the real ones. The machine keeps what was done to it, the disk what was
committed; everything else is lost with the process.
"""

from collections.abc import Callable
from pathlib import Path

from nixfleet_agent.activation.activator import RollbackFinished, SwitchCompleted
from nixfleet_agent.messages.inputs import (
    AttemptsUsedUp,
    Intent,
    IntentBegun,
    IntentKind,
    IntentWithdrawn,
    RollbackEnded,
    RunningClosureSeen,
    SwitchEnded,
    SwitchStarted,
    Tick,
)
from nixfleet_agent.messages.inputs import Input as AgentInput
from nixfleet_agent.messages.inputs import Reply as AgentReply
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_control_plane.messages.inputs import PlanTick
from nixfleet_control_plane.messages.log_entry import FactRefused, FactReported
from nixfleet_proto.agent_event import AgentEvent, ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Retry, RolloutPolicy
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.releases import Layout
from tests.engines.small_fleet import Agent, Behaviour, SmallFleet

HOST = "web-01"
R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
BEFORE, GOOD, BAD = "release-0", f"r1-{HOST}", f"r2-{HOST}"
TURNS_MAX = 40
AT_REST = frozenset({RolloutState.TERMINAL, RolloutState.REVERTED, RolloutState.FAILED})


ALONE = Layout(waves=((HOST,),), soak_minutes=1)
TWO_ATTEMPTS = Layout(
    waves=((HOST, "web-02"),),
    soak_minutes=1,
    policy=RolloutPolicy(max_failures=1, retry=Retry(attempts=2, backoff_seconds=30)),
)
"""The other host does nothing: the wave may lose one and goes on."""


class Crash(Exception):
    """The process is gone."""


class Fuse:
    """Counts the places at which a process could die, once it is lit, and lets it die at one of them, once."""

    def __init__(self, blows_at: int = 0) -> None:
        self.blows_at = blows_at
        self.passed = 0
        self.is_lit = False

    def pass_by(self) -> None:
        """Here it could die. Raises: Crash."""
        self.passed += self.is_lit
        if self.is_lit and self.passed == self.blows_at:
            raise Crash


class CrashingAgent(Agent):
    """An agent with a fuse in every gap between two steps. `switched`: the switches that took effect."""

    def __init__(self, fleet: "CrashingFleet", hostname: str, path: Path) -> None:
        self.fuse = fleet.fuse
        self.path = path
        self.fleet = fleet
        self.switched: list[str] = []
        super().__init__(fleet, hostname, path)

    def tell(self, input: AgentInput) -> AgentReply:
        """As the kernel does it: decide, write, and only then do."""
        commit = self.engine.handle(input, self.fleet.now)
        self.fuse.pass_by()
        self.journal.commit(commit.writes)
        self.engine.settle()
        for action in commit.actions:
            self.fuse.pass_by()
            self._act(action)
        return commit.reply

    def carry_out(self, intent: Intent) -> None:
        """As an activator does it: look at what runs first, and do only what is not done."""
        reply = self.tell(IntentBegun(intent.intent_id))
        if isinstance(reply, AttemptsUsedUp | IntentWithdrawn):
            return
        if intent.kind is IntentKind.SWITCH:
            if self.running != intent.closure:
                self.tell(SwitchStarted(intent.intent_id, "directory"))
            self._move_to(intent.closure)
            self.tell(SwitchEnded(intent.intent_id, SwitchCompleted(intent.closure, 0)))
        else:
            self._move_to(intent.closure)
            self.tell(RollbackEnded(intent.intent_id, RollbackFinished(intent.closure, 0)))

    def _move_to(self, closure: str) -> None:
        self.fuse.pass_by()
        if self.running != closure:
            self.running = closure
            self.switched.append(closure)
        self.fuse.pass_by()

    def replace_disk(self) -> None:
        """Start on an empty journal; what the machine runs is on another disk."""
        self.journal.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.start()


class CrashingFleet(SmallFleet):
    """A control plane and one host, in the story of a good release and a bad one.

    after_crash: what happens when the agent has died, before it starts again.
    """

    def __init__(
        self,
        directory: Path,
        fuse: Fuse,
        after_crash: Callable[["CrashingFleet"], None] = lambda fleet: fleet.host.restart(),
        layout: Layout = ALONE,
    ) -> None:
        directory.mkdir()
        self.fuse = fuse
        self.after_crash = after_crash
        super().__init__(directory, layout)
        self.behaviour = Behaviour(
            probe={BAD: ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
        )

    def made_agent(self, hostname: str, path: Path) -> Agent:
        return CrashingAgent(self, hostname, path)

    @property
    def host(self) -> CrashingAgent:
        agent = self.agents[HOST]
        assert isinstance(agent, CrashingAgent)
        return agent

    def hear(self, hostname: str, rollout_id: str, *facts: AgentEvent) -> EventsOutcome:
        """The host may die with its facts sent, and with them durable there and the answer lost."""
        self.fuse.pass_by()
        outcome = super().hear(hostname, rollout_id, *facts)
        self.fuse.pass_by()
        return outcome

    def tell_story(self) -> None:
        """Release r1, which is good, and when it is complete r2, which is not; whatever happens in between."""
        self.fuse.is_lit = True
        self.publish("r1")
        self.until_terminal(R1)
        self.publish("r2")
        self._until(lambda: self.rollout(R2).state in AT_REST and not self.host.state.intents)
        self._turn()
        # Who died in the last moment has come back by now, and says so.
        self.fuse.is_lit = False
        self._turn()
        self._turn()

    def tell_story_of_attempts(self) -> None:
        """Release r2, which is not good, and have the host try it twice."""
        self.host.running = GOOD
        self.fuse.is_lit = True
        self.publish("r2")
        self._until(
            lambda: (
                self.mirrored(R2, HOST).attempt == 2
                and self.mirrored(R2, HOST).state is HostState.REVERTED
                and not self.host.state.intents
            )
        )
        self._turn()
        self.fuse.is_lit = False
        self._turn()
        self._turn()

    def until_terminal(self, rollout_id: RolloutId) -> None:
        """Let everybody work until the rollout is complete."""
        self._until(lambda: self.rollout(rollout_id).state in AT_REST)

    def _until(self, is_reached: Callable[[], bool]) -> None:
        for _ in range(TURNS_MAX):
            if is_reached():
                return
            self.wait(seconds=30)
            self._turn()
        raise AssertionError(f"wedged after {self.fuse.passed} steps: {self.host.state.rollouts}")

    def _turn(self) -> None:
        try:
            agent = self.host
            self.compare(agent)
            agent.tell(RunningClosureSeen(agent.running))
            agent.probe()
            agent.tell(Tick())
            self.send(agent)
            self.poll(agent)
            self.send(agent)
            self.ask(PlanTick())
        except Crash:
            self.after_crash(self)

    def reported(self, rollout_id: RolloutId) -> list[AgentEvent]:
        """Return the facts of a rollout in the control plane's log, refused ones too, in its order."""
        entries = (logged.entry for logged in self.log())
        return [
            entry.fact
            for entry in entries
            if isinstance(entry, FactReported | FactRefused) and entry.rollout_id == rollout_id
        ]
