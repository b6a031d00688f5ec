"""A fleet in rough weather: what is sent is under way until somebody lets it arrive, once, twice or never.

The engines and stores are the real ones. Machines take their time, messages overtake each other, and answers get
lost. Nobody lies: whatever is refused here was a fact, and a bug.
"""

from pathlib import Path

from attrs import frozen

from nixfleet_agent.journal.journal import JournalRow
from nixfleet_agent.messages.inputs import (
    DispatchOffered,
    EventsAcknowledged,
    Intent,
    ReplayAsked,
    Tick,
)
from nixfleet_control_plane.messages.inputs import Input, ManifestAnswer, ManifestPoll, Reply
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import EventRefused, ReplayFrom
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.small_fleet import Agent, SmallFleet

UNSENT_MAX = 256


@frozen
class Message:
    """Facts of one host in one rollout, on their way to the control plane."""

    hostname: str
    rollout_id: RolloutId
    rows: tuple[JournalRow, ...]


class RoughAgent(Agent):
    """A host whose machine does what was decided when it is let, not at once."""

    def start(self) -> None:
        self.decided: list[Intent] = []
        super().start()

    def take_on(self, intent: Intent) -> None:
        """Do it later."""
        self.decided.append(intent)

    def work(self) -> None:
        """Do the first thing that was decided."""
        if self.decided:
            self.carry_out(self.decided.pop(0))

    def reboot(self) -> None:
        """Come back, on the closure that waited for this if there is one."""
        for rollout in self.state.rollouts.values():
            if rollout.closed_at is None and rollout.record.state is HostState.DEFERRED:
                self.running = rollout.record.target_closure
        self.restart()


class RoughFleet(SmallFleet):
    """A control plane and its agents, with a network between them that promises nothing."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.under_way: list[Message] = []
        self.offers: dict[str, Dispatch] = {}
        self.facts: dict[tuple[RolloutId, str], dict[int, AgentEvent]] = {}
        self.takes_back_first = False
        super().__init__(directory, layout)

    def made_agent(self, hostname: str, path: Path) -> Agent:
        return RoughAgent(self, hostname, path)

    def agent(self, hostname: str) -> RoughAgent:
        agent = self.agents[hostname]
        assert isinstance(agent, RoughAgent)
        return agent

    def ask(self, *inputs: Input) -> tuple[Reply, ...]:
        """As ever; with `takes_back_first`, after the same was decided once and came to nothing."""
        if self.takes_back_first:
            before = likeness(self.state)
            for input in inputs:
                self.engine.handle(input, self.now)
            self.engine.roll_back()
            assert likeness(self.state) == before
        return super().ask(*inputs)

    # The network.

    def post(self, hostname: str) -> None:
        """The host sends what it has not had acknowledged, in one message for each rollout."""
        rows: dict[RolloutId, list[JournalRow]] = {}
        for row in self._unsent(hostname):
            rows.setdefault(row.rollout_id, []).append(row)
        for rollout_id, of_rollout in rows.items():
            self.under_way.append(Message(hostname, rollout_id, tuple(of_rollout)))

    def post_piecemeal(self, hostname: str) -> None:
        """As `post`, in one message for each fact."""
        for row in self._unsent(hostname):
            self.under_way.append(Message(hostname, row.rollout_id, (row,)))

    def under_way_from(self, hostname: str) -> list[Message]:
        """Return the messages of a host that have not arrived, oldest first."""
        return [message for message in self.under_way if message.hostname == hostname]

    def _unsent(self, hostname: str) -> tuple[JournalRow, ...]:
        rows = self.agents[hostname].journal.unsent(UNSENT_MAX)
        for row in rows:
            self.facts.setdefault((row.rollout_id, hostname), {})[row.fact.seq] = row.fact
        return rows

    def arrive(self, message: Message, *, is_answer_lost: bool) -> None:
        """A message reaches the control plane, and the answer its host, or not."""
        outcome = self.hear(
            message.hostname, message.rollout_id, *(row.fact for row in message.rows)
        )
        assert not isinstance(outcome.stopped_by, EventRefused), outcome
        if is_answer_lost:
            return
        agent = self.agents[message.hostname]
        agent.tell(
            EventsAcknowledged(tuple(row.row_id for row in message.rows[: outcome.accepted]))
        )
        if isinstance(outcome.stopped_by, ReplayFrom):
            agent.tell(ReplayAsked(outcome.stopped_by))

    def ask_for_dispatch(self, hostname: str) -> None:
        """The host polls; what it is handed is on its way."""
        dispatch = self.dispatch_of(hostname)
        if dispatch is not None:
            self.offers[hostname] = dispatch

    def take_dispatch(self, hostname: str) -> None:
        """What the host was handed arrives; it fetches the manifest, and acts on that."""
        dispatch = self.offers.pop(hostname, None)
        if dispatch is None:
            return
        rollout_id = RolloutId(dispatch.rollout_id)
        manifest = self.ask_for(ManifestAnswer, ManifestPoll(rollout_id))
        if manifest.artefact is not None:
            agent = self.agents[hostname]
            agent.tell(DispatchOffered(dispatch, self.manifest_of(rollout_id), agent.running))

    def calm_minute(self) -> None:
        """A minute in which everybody does what they do, and everything arrives."""
        self.wait(minutes=1)
        for hostname in self.agents:
            agent = self.agent(hostname)
            self.ask_for_dispatch(hostname)
            self.take_dispatch(hostname)
            agent.work()
            agent.probe()
            agent.tell(Tick())
            self.compare(agent)
            self.post(hostname)
            while self.under_way:
                self.arrive(self.under_way.pop(0), is_answer_lost=False)
        self.tick()
        self.flush(limit=2)

    # What must hold.

    def lived(self, rollout_id: RolloutId, hostname: str, last_seq: int) -> HostRolloutState:
        """Return the host's own record as it was after its fact `last_seq`."""
        rollout = self.agents[hostname].state.rollouts[rollout_id]
        last = rollout.record
        if last.last_event_seq == last_seq:
            return last
        record = HostRolloutState.pending(
            rollout_id,
            hostname,
            last.channel,
            last.target_closure,
            last.dispatched_at,
            last.soak_due_at,
        )
        for seq in range(1, last_seq + 1):
            fact = self.facts[rollout_id, hostname][seq]
            record, _ = step(record, Local(fact), self.now, rollout.policy)
        return record

    def differing_mirrors(self) -> list[tuple[HostRolloutState, HostRolloutState]]:
        """Return the records of the control plane that are not what the host lived, each with that."""
        pairs = [
            (record, self.lived(rollout_id, record.hostname, record.last_event_seq))
            for rollout_id in self.opened()
            for record in self.state.view.hosts_of(rollout_id)
            if record.last_event_seq and rollout_id in self.agents[record.hostname].state.rollouts
        ]
        return [(mirrored, lived) for mirrored, lived in pairs if mirrored != lived]

    def opened(self) -> list[RolloutId]:
        """Return the rollouts that are not pruned."""
        pruned = self.state.pruned
        return [rollout_id for rollout_id in self.state.view.rollouts if rollout_id not in pruned]
