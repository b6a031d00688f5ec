"""The world: every node, the network between them, and CI.

It decides nothing about rollouts: the acts come from the scenario (`perform_acts`), the rest from the engines.
"""

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from attrs import evolve, frozen

from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_simulation.judge.checker import Checker
from nixfleet_simulation.judge.model.rollout_model import Moment
from nixfleet_simulation.judge.recorder import Recorder
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.ci import ReleaseDirectory
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.control_plane import (
    ControlPlane,
    ControlPlaneDisk,
    ControlPlaneNode,
    Storage,
    Watcher,
)
from nixfleet_simulation.nodes.host.identity import HostIdentity
from nixfleet_simulation.nodes.host.machine import SimulatedMachine
from nixfleet_simulation.nodes.host.process import Host, HostDisk
from nixfleet_simulation.nodes.interference import Interference
from nixfleet_simulation.nodes.judges import Judges
from nixfleet_simulation.nodes.leadership.control_planes import ControlPlanes
from nixfleet_simulation.nodes.leadership.participant import Participant
from nixfleet_simulation.nodes.lying_control_plane import LyingControlPlane
from nixfleet_simulation.nodes.network import Answer, Call, Network
from nixfleet_simulation.nodes.notifier import Notifier
from nixfleet_simulation.nodes.production_parts import Parts
from nixfleet_simulation.nodes.release_exchange import ReleaseExchange
from nixfleet_simulation.nodes.release_watcher import ReleaseWatcher
from nixfleet_simulation.nodes.signed_requests import (
    Request,
    RequestSigner,
    Signatures,
    SignedRequest,
)
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import CONTROL_PLANE
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour
from nixfleet_simulation.scenario.randomness import stream
from nixfleet_simulation.scenario.scenario import Scenario

SKEW_MAX = 5 * SECOND


@frozen
class DieAt:
    """The node dies, once, at the boundary with this number, in the order of crossing.

    write_survives: whether the write under way is durable afterwards.
    """

    node: str
    number: int
    write_survives: bool = False


class World:
    """A running fleet. behaviours: of closures, by host. forged: the hosts whose answers are altered."""

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        parts: Parts,
        *,
        keeps_lines: bool = False,
        die_at: DieAt | None = None,
        make_recorder: Callable[[Trace, Checker], Recorder] = Recorder,
    ) -> None:
        self.scenario = scenario
        self.agenda = Agenda(scenario.starts_at)
        self.trace = Trace(self.agenda, keeps_lines=keeps_lines)
        self.ci = ReleaseDirectory(
            scenario.seed, scenario.channels, scenario.enrolling, scenario.calendar
        )
        self.exchange = ReleaseExchange(scenario.seed, self.ci)
        self._signatures = Signatures(scenario.real_signatures)
        self._signer = RequestSigner(self._signatures)
        threshold = scenario.cadence.failure_threshold
        self.checker = Checker(
            lambda: self.ci.trust,
            threshold,
            lambda: Moment(self.agenda.now, self.control_plane.clock.set_forward),
        )
        self.behaviours: dict[str, dict[str, ClosureBehaviour]] = {
            host: {} for host in scenario.hosts
        }
        self.forged: Counter[str] = Counter()
        self._directory = directory
        self._parts = parts
        self.die_at = die_at
        self._recorder = make_recorder(self.trace, self.checker)
        self.control_plane = self._made_control_plane()
        self.notifier = Notifier(
            self.agenda,
            scenario.seed,
            self.control_plane,
            self.checker.deliveries,
            parts.hook_engine,
        )
        self.judges = Judges(self.agenda, scenario.seed, self.control_plane)
        self.liar = LyingControlPlane(
            self.agenda,
            scenario.seed,
            scenario.channels,
            self.ci,
            lambda: self.control_plane.state.view,
            self._recorder.lie_sent,
        )
        self.network = Network(
            self.agenda,
            scenario.seed,
            scenario.hosts,
            self._deliver,
            self._signed,
            lambda host: self.hosts[host].machine.is_cut_off,
        )
        self.interference = Interference(self.agenda, scenario.seed, self._pass_on, self._signed)
        self.hosts = {host: self._made_host(host) for host in scenario.hosts}
        every = scenario.cadence.watch_releases
        self._watcher = ReleaseWatcher(
            self.agenda, self.ci, self.exchange, self.control_plane, every
        )

    def begin(self, without: Collection[str] = ()) -> None:
        """Start all nodes, at slightly different times, except the hosts in `without`."""
        self.control_plane.start()
        for hostname, host in self.hosts.items():
            if hostname in without:
                continue
            rng = stream(self.scenario.seed, "start", hostname)
            self.agenda.after(rng.randrange(5 * SECOND), None, host.start)
        self._watcher.look()
        self.notifier.begin()
        if any(channel.guards for channel in self.scenario.channels):
            self.judges.look()

    def close(self) -> None:
        """Close all files."""
        self.control_plane.disk.close()
        for host in self.hosts.values():
            host.close()

    def node(self, name: str) -> ControlPlaneNode | Host:
        """Return the node of that name."""
        return self.control_plane if name == CONTROL_PLANE else self.hosts[name]

    def _made_control_plane(self) -> ControlPlaneNode:
        parts, scenario = self._parts, self.scenario
        disk = ControlPlaneDisk(
            self.agenda,
            stream(self.scenario.seed, "disk", CONTROL_PLANE),
            self._directory / f"{CONTROL_PLANE}.sqlite",
            parts.open_store,
        )
        if scenario.control_planes > 1:
            return ControlPlanes(
                self.agenda,
                scenario.seed,
                disk,
                self.trace,
                self._recorder,
                self.checker.leadership,
                self._made_term,
                self._dies_at(CONTROL_PLANE),
            )
        return ControlPlane(
            self.agenda,
            NodeClock(self.agenda),
            disk,
            self.trace,
            self._recorder,
            scenario.cadence.control_plane_tick,
            lambda: self.ci.trust,
            self._signatures,
            parts.control_plane_engine,
            parts.load_control_plane,
            self._dies_at(CONTROL_PLANE),
        )

    def _made_term(
        self, participant: Participant, storage: Storage, watcher: Watcher
    ) -> ControlPlane:
        return ControlPlane(
            participant.timeline,
            participant.clock,
            self.control_plane.disk,
            self.trace,
            watcher,
            self.scenario.cadence.control_plane_tick,
            lambda: self.ci.trust,
            self._signatures,
            self._parts.control_plane_engine,
            storage=storage,
            is_current=participant.is_current,
            name=participant.name,
        )

    def _made_host(self, hostname: str) -> Host:
        seed, parts = self.scenario.seed, self._parts
        skew = stream(seed, "clock", hostname).randint(-SKEW_MAX, SKEW_MAX)
        disk = HostDisk(
            self.agenda,
            stream(seed, "disk", hostname),
            self._directory / f"{hostname}.sqlite",
            parts.open_journal,
        )
        return Host(
            hostname,
            self.agenda,
            seed,
            NodeClock(self.agenda, skew),
            disk,
            SimulatedMachine(
                self.agenda, stream(seed, "machine", hostname), self.behaviours[hostname]
            ),
            self.network,
            self.trace,
            self._recorder,
            self.scenario.cadence,
            lambda: self.ci.trust,
            parts.agent_engine,
            parts.memory_journal,
            HostIdentity(seed, hostname, self._signer),
            self.scenario.watches_home,
            self._dies_at(hostname),
        )

    def _dies_at(self, node: str) -> int | None:
        die_at = self.die_at
        return die_at.number if die_at is not None and die_at.node == node else None

    # Requests to the control plane.

    def _signed(self, by: str, request: Request, hostname: str = "") -> SignedRequest:
        """Return the request signed with the key of `by`, as `hostname`; empty: as itself."""
        host = self.hosts[by]
        return host.identity.signed(request, host.clock.now(), hostname)

    def _deliver(self, call: Call) -> None:
        self.interference.deliver(call)

    def _pass_on(self, call: Call) -> None:
        if self.liar.reigns:
            self.liar.receive(call)
            return
        call = call.answered_through(self.liar.overhear)
        if self.forged[call.hostname] > 0:
            call = call.answered_through(self._forge)
        self.control_plane.receive(call)

    def _forge(self, answer: Answer) -> Answer:
        """Return an answer as an attacker alters it."""
        if isinstance(answer, DispatchAnswer) and answer.dispatch is not None:
            evil = f"evil-{answer.dispatch.target_closure}"
            return DispatchAnswer(evolve(answer.dispatch, target_closure=evil))
        if isinstance(answer, ManifestAnswer) and answer.artefact is not None:
            return ManifestAnswer(self.ci.forged_manifest(answer.artefact))
        return answer
