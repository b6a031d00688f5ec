"""An agent's process in virtual time: the production engine and journal behind simulated workers.

What `nixfleet_agent.service` does with tasks is done here with the agenda.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeAlias

from attrs import frozen

from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.state import State
from nixfleet_agent.journal.journal import (
    BlockingJournal,
    JournalRow,
    JournalSnapshot,
    SqliteJournal,
)
from nixfleet_agent.journal.loading import load_state
from nixfleet_agent.messages.inputs import Action, Input, Intent, Reply
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.ports import AgentSettings
from nixfleet_agent.workers.assembly import Workers
from nixfleet_agent.workers.enrollment import EnrollmentWorker
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import SignedArtefact
from nixfleet_simulation.nodes.agenda import Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.disk import Disk
from nixfleet_simulation.nodes.host.enrollment_shell import TOKEN_FILE, SimulatedEnrollment
from nixfleet_simulation.nodes.host.identity import HostIdentity
from nixfleet_simulation.nodes.host.machine import SimulatedMachine
from nixfleet_simulation.nodes.host.shell import (
    SILENT_LOG,
    SWITCH_METHOD,
    AgentMutator,
    SimulatedShell,
    checks_of,
)
from nixfleet_simulation.nodes.memory_journal import MemoryJournal
from nixfleet_simulation.nodes.mutator import Handled, Mutator, Shell
from nixfleet_simulation.nodes.network import Network
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import Boundary
from nixfleet_simulation.scenario.randomness import Seed, stream
from nixfleet_simulation.scenario.scenario import FRESHNESS_WINDOW_MINUTES, Cadence
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric

HandledInput: TypeAlias = Handled[Input, Write, Reply, Action]
HostDisk: TypeAlias = Disk[Write, SqliteJournal]

ROWS_MAX = 1_000_000
"""More rows than any simulated host has."""


@frozen
class KeptJournal:
    """Everything that an agent reads from its journal."""

    snapshot: JournalSnapshot
    unsent: tuple[JournalRow, ...]
    last_seqs: Mapping[str, int]


@frozen
class MachineSeen:
    """What is true of a host, whatever anybody says.

    at: now, in microseconds. running, running_since: the closure that runs. clock_set_forward, clock_set_back: all that
    its clock was ever set forward and back by. is_cut_off: whether what runs keeps it from reaching anything.
    """

    at: int
    running: str
    running_since: int
    clock_set_forward: int
    clock_set_back: int
    is_cut_off: bool = False


class Watcher(Protocol):
    """Observes what an agent does, for the judge."""

    def agent_kept(
        self, hostname: str, handled: Sequence[HandledInput], machine: MachineSeen
    ) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        ...

    def agent_started(self, hostname: str, expected: KeptJournal, found: KeptJournal) -> None:
        """An agent started. expected: what was durable. found: what its journal returned."""
        ...

    def intent_began(self, hostname: str, intent: Intent, running: str) -> None:
        """The machine begins to switch or to roll back; it runs `running`."""
        ...

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """An engine raised on an input: a bug."""
        ...


class Host:
    """One host: a machine, a disk, a clock, and an agent's process on it. make_engine: for tests."""

    def __init__(
        self,
        hostname: str,
        agenda: Agenda,
        seed: Seed,
        clock: NodeClock,
        disk: HostDisk,
        machine: SimulatedMachine,
        network: Network,
        trace: Trace,
        watcher: Watcher,
        cadence: Cadence,
        trust: Callable[[], TrustRoot],
        make_engine: Callable[[State, timedelta], AgentEngine],
        make_journal: Callable[[], MemoryJournal],
        identity: HostIdentity,
        watches_home: bool,
        die_at: int | None = None,
    ) -> None:
        self._watches_home = watches_home
        self.hostname = hostname
        self.identity = identity
        self.clock = clock
        self.disk = disk
        self.machine = machine
        self.is_up = False
        self.boundaries = CrashBoundaries(self._die_there, die_at)
        self.on_death: Callable[[], None] = lambda: None
        self.state: State
        self._agenda = agenda
        self._rng = stream(seed, "host", hostname)
        self._network = network
        self._trace = trace
        self._watcher = watcher
        self._settings = AgentSettings(
            hostname,
            failure_threshold_seconds=cadence.failure_threshold,
            freshness_window_minutes=FRESHNESS_WINDOW_MINUTES,
            tick_seconds=cadence.agent_tick,
            linger_seconds=0.0,  # What lingers is in the journal, so a crash in between is one between two sends.
            heartbeat_seconds=cadence.heartbeat,
            poll_wait_seconds=cadence.poll_wait,
        )
        self._probe_interval_seconds = cadence.probe_interval
        self._trust = trust
        self._make_engine = make_engine
        self._make_journal = make_journal
        self._journal = make_journal()
        self._life = NodeLifetime()
        self._mutator: AgentMutator
        self._has_run = False
        self._cached_manifests: dict[str, SignedArtefact] = {}

    # NodeLifetime and death.

    def start(self) -> None:
        """Start with the contents of the disk."""
        self.state = load_state(self._kept_journal(), self.hostname)
        self._life = NodeLifetime()
        self.is_up = True
        self._trace.narrate(self.hostname, f"starts, running {self.machine.running}")
        shell = Shell[Input, Write, Reply, Action](
            self._agenda,
            self._life,
            self.clock,
            self.disk.write,
            self._carry_out,
            self.boundaries,
            self._kept,
            partial(self._watcher.engine_raised, self.hostname),
        )
        threshold = timedelta(seconds=self._settings.failure_threshold_seconds)
        self._mutator = Mutator(self._make_engine(self.state, threshold), shell)
        self._start_workers()

    def _kept_journal(self) -> MemoryJournal | SqliteJournal:
        """The first start finds nothing, and needs no file to find it in."""
        if not self._has_run:
            self._has_run = True
            return self._journal
        kept = self.disk.reopened()
        self._watcher.agent_started(self.hostname, _all_of(self._journal), _all_of(kept))
        return kept

    def _start_workers(self) -> None:
        self._workers = Workers(
            self._settings,
            SWITCH_METHOD,
            self.clock.now,
            self._trust,
            self._rng.random,
            lambda _: SILENT_LOG,
        )
        self._shell = SimulatedShell(
            self.hostname,
            self._agenda,
            self._life,
            self._rng,
            checks_of(self._probe_interval_seconds, watches_home=self._watches_home),
            self.machine,
            self._journal,
            self._cached_manifests,
            self._network,
            self._mutator,
            self.boundaries,
            self._began,
            lambda: enrollment.note_not_known(),
        )
        enrollment = EnrollmentWorker(
            self.hostname,
            self.identity.own,
            TOKEN_FILE,
            self._trust,
            self.clock.now,
            self._workers.backoff_for_control_plane(),
            SILENT_LOG,
        )
        self._enrollment = SimulatedEnrollment(
            self._agenda, self._life, self.identity, self._shell.call_to_enroll
        )
        self._shell.start(self._workers.intents.run)
        self._enrollment.start(enrollment)
        self._shell.start(partial(self._workers.boot, self.machine.running))

    def die(self, *, write_survives: bool = False) -> None:
        """Stop, as in a loss of power."""
        if not self.is_up:
            return
        self._life.is_over = True
        self.is_up = False
        self.boundaries.armed = None
        self._end_workers()
        self.disk.cut_off(write_survives=write_survives)
        self._trace.narrate(self.hostname, "dies")

    def close(self) -> None:
        """End the process and close the disk, at the end of a simulation."""
        self._life.is_over = True
        if self.is_up:
            self._end_workers()
        self.disk.close()

    def _end_workers(self) -> None:
        self._shell.die()
        self._enrollment.close()

    def lose_disk(self) -> None:
        """Replace the disk by an empty one; the machine keeps running."""
        self.disk.replace()
        self._journal = self._make_journal()
        self._cached_manifests = {}
        self._has_run = False

    def _die_there(self, boundary: Boundary) -> None:
        self._trace.narrate(self.hostname, f"reaches the boundary of its crash: {boundary.value}")
        self.on_death()

    # What commits lead to.

    def _kept(self, handled: Sequence[HandledInput]) -> None:
        written = [each for each in handled if each.commit.writes]
        if not written:
            return
        seen = MachineSeen(
            self._agenda.now,
            self.machine.running,
            self.machine.running_since,
            self.clock.set_forward,
            self.clock.set_back,
            self.machine.is_cut_off,
        )
        self._watcher.agent_kept(self.hostname, written, seen)
        for each in written:
            self._journal.commit(each.commit.writes)

    def _began(self, intent: Intent) -> None:
        running = self.machine.running
        self._trace.narrate(self.hostname, f"begins to {intent.kind.value} to {intent.closure}")
        self._watcher.intent_began(self.hostname, intent, running)

    def _carry_out(self, action: Action) -> None:
        if not isinstance(action, EmitMetric | EmitLog):
            self._workers.carry_out(action)


def _all_of(journal: BlockingJournal) -> KeptJournal:
    return KeptJournal(journal.load(), journal.unsent(ROWS_MAX), journal.last_seqs())
