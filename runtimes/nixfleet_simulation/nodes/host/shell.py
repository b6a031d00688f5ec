"""Runs an agent's workers in virtual time: carries out their steps with the agenda. The workers are the production's.

Does with the agenda what `nixfleet_agent.workers.shell` does with tasks, except that a worker that raises ends the
simulation instead of beginning again: it has a bug.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, assert_never

from nixfleet_agent.locks.lock import LockOutcome
from nixfleet_agent.messages.inputs import (
    Action,
    ChecksLoaded,
    ChecksUnreadable,
    Input,
    Intent,
    Reply,
)
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.network import answers
from nixfleet_agent.network.enrollment import NOT_KNOWN
from nixfleet_agent.probes.runner import PASSED, failed
from nixfleet_agent.workers.steps import (
    AgentStep,
    AskLock,
    Begin,
    CacheManifest,
    FetchManifest,
    PollDispatch,
    PostEvents,
    PostInput,
    Prepare,
    PruneCachedManifests,
    ReadCachedManifest,
    ReadHealthChecks,
    ReadLastSeqs,
    ReadRunningClosure,
    ReadUnsent,
    ReadUnsentRollouts,
    RollBack,
    RunProbe,
    SendHeartbeat,
    Start,
    StopGroup,
    Switch,
    TellAnswered,
    Wait,
)
from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe, HealthCheck, HomeProbe, TcpProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX, TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.host.machine import SimulatedMachine
from nixfleet_simulation.nodes.host.tasks import Task, begin_wait
from nixfleet_simulation.nodes.memory_journal import MemoryJournal
from nixfleet_simulation.nodes.mutator import Mutator
from nixfleet_simulation.nodes.network import Answer, Failure, Network
from nixfleet_simulation.nodes.signed_requests import AskDispatch, Request, SendEvents
from nixfleet_simulation.nodes.signed_requests import FetchManifest as FetchManifestRequest
from nixfleet_simulation.scenario.acts import Boundary
from nixfleet_simulation.scenario.randomness import Random

AgentMutator: TypeAlias = Mutator[Input, Write, Reply, Action]
AgentTask: TypeAlias = Task[AgentStep]

SWITCH_METHOD = "simulated"
SECOND_ADDRESS = "gateway:443"
PROBE_SECONDS = (0.01, 0.8)
READING_SECONDS = 0.01

SILENT_LOG = logging.Logger("simulated agents", logging.CRITICAL + 1)
"""Where the workers of simulated agents log. Outside the tree of loggers, so that no configuration shows it."""


def checks_of(interval_seconds: int, *, watches_home: bool = False) -> HealthCheckSet:
    """Return the checks that every closure has: one per mode. `alive` is the enforce probe, which decides.

    watches_home: with a look home, and a second address that answers whoever's network works.
    """
    command = ("bin/alive",)
    checks: dict[str, HealthCheck] = {
        "alive": ExecProbe(command, interval_seconds=interval_seconds),
        "watched": ExecProbe(
            command, interval_seconds=interval_seconds * 2, mode=ProbeMode.OBSERVE
        ),
        "unused": ExecProbe(command, mode=ProbeMode.DISABLED),
    }
    if watches_home:
        checks["home"] = HomeProbe(second_address=SECOND_ADDRESS, interval_seconds=interval_seconds)
    return HealthCheckSet(checks)


class SimulatedShell:
    """Carries out the steps of one agent's workers.

    cached: the manifests on the host's disk. began: called with each intent when the machine begins to carry it out.
    on_not_known: called when an answer says that the control plane does not know this host's key.
    """

    def __init__(
        self,
        hostname: str,
        agenda: Agenda,
        lifetime: NodeLifetime,
        rng: Random,
        checks: HealthCheckSet,
        machine: SimulatedMachine,
        journal: MemoryJournal,
        cached: dict[str, SignedArtefact],
        network: Network,
        mutator: AgentMutator,
        boundaries: CrashBoundaries,
        began: Callable[[Intent], None],
        on_not_known: Callable[[], None],
    ) -> None:
        self._hostname = hostname
        self._agenda = agenda
        self._lifetime = lifetime
        self._rng = rng
        self._checks = checks
        self._machine = machine
        self._journal = journal
        self._cached = cached
        self._network = network
        self._mutator = mutator
        self._boundaries = boundaries
        self._began = began
        self._on_not_known = on_not_known
        self._groups: dict[RolloutId, NodeLifetime] = {}
        self._tasks: list[AgentTask] = []

    def start(self, begin: Begin, group: RolloutId | None = None) -> None:
        """Run a worker. group: the rollout it belongs to."""
        lifetime = self._lifetime
        if group is not None:
            lifetime = self._groups.setdefault(group, NodeLifetime())
        task = Task(begin(), lifetime, self._carry_out)
        self._tasks.append(task)
        task.begin()

    def die(self) -> None:
        """End all workers with their process, whose lifetime is over already."""
        for lifetime in self._groups.values():
            lifetime.is_over = True
        self._close_ended()

    def _close_ended(self) -> None:
        """Close the workers whose lifetime is over, in order: the garbage collector has none."""
        for task in self._tasks:
            if task.lifetime.is_over:
                task.work.close()
        self._tasks = [task for task in self._tasks if not task.lifetime.is_over]

    def _carry_out(self, task: AgentTask, step: AgentStep) -> None:
        match step:
            case Wait():
                begin_wait(self._agenda, task, step)
            case PostInput():
                self._mutator.post(step.input, task.answer, partial(self._not_written, task))
            case PollDispatch() | PostEvents() | SendHeartbeat() | FetchManifest():
                self._ask_control_plane(task, step)
            case ReadUnsent():
                task.answer(self._journal.unsent(step.limit, step.leave_out))
            case ReadUnsentRollouts():
                task.answer(self._journal.unsent_rollouts())
            case ReadLastSeqs():
                task.answer(self._journal.last_seqs())
            case ReadCachedManifest():
                task.answer(self._cached.get(step.rollout_id))
            case CacheManifest():
                self._cached[step.rollout_id] = step.artefact
                task.answer(None)
            case PruneCachedManifests():
                for rollout_id in self._cached.keys() - set(step.rollout_ids):
                    del self._cached[rollout_id]
                task.answer(None)
            case ReadRunningClosure():
                task.answer(self._machine.running)
            case Prepare():
                task.answer(
                    None if step.unless.is_set else self._machine.prepare(step.intent.closure)
                )
            case Switch():
                self._began(step.intent)
                self._machine.switch(
                    task.lifetime, step.intent.closure, task.answer, step.time_limit_seconds
                )
            case RollBack():
                self._began(step.intent)
                self._machine.rollback(task.lifetime, step.intent.closure, task.answer)
            case AskLock():
                task.answer(LockOutcome(0))
            case TellAnswered():
                task.answer(None)
            case ReadHealthChecks():
                self._after(READING_SECONDS, task, task.answer, self._checks_in(step))
            case RunProbe():
                self._begin_probe(task, step.check)
            case Start():
                self.start(step.begin, step.group)
                task.answer(None)
            case StopGroup():
                lifetime = self._groups.pop(step.group, None)
                if lifetime is not None:
                    lifetime.is_over = True
                    self._close_ended()
                task.answer(None)
            case _:
                assert_never(step)

    # Time.

    def _after(
        self, seconds: float, task: AgentTask, happen: Callable[..., None], *arguments: object
    ) -> None:
        self._agenda.after(int(seconds * SECOND), task.lifetime, happen, *arguments)

    # The engine.

    def _not_written(self, task: AgentTask, error: Exception) -> None:
        failure = WriteFailed()
        failure.__cause__ = error
        task.fail(failure)

    # The control plane.

    def _ask_control_plane(
        self, task: AgentTask, step: PollDispatch | PostEvents | SendHeartbeat | FetchManifest
    ) -> None:
        match step:
            case PollDispatch():
                wait = int(step.wait_seconds * SECOND)
                self._call(task, AskDispatch(wait), answers.poll_seconds_max(step.wait_seconds))
            case PostEvents():
                if not self._boundaries.cross(Boundary.BEFORE_SEND):
                    self._call(task, SendEvents(step.envelopes))
                    self._boundaries.cross(Boundary.AFTER_SEND)
            case SendHeartbeat():
                self._call(task, step.heartbeat)
            case FetchManifest():
                self._call(task, FetchManifestRequest(step.rollout_id))
            case _:
                assert_never(step)

    def _call(
        self, task: AgentTask, request: Request, seconds_max: float = ANSWER_SECONDS_MAX
    ) -> None:
        self._send(
            task.lifetime, request, seconds_max, partial(_answer_with_content, task), task.fail
        )

    def call_to_enroll(
        self,
        request: Request,
        answered: Callable[[Answer], None],
        failed: Callable[[Failure], None],
    ) -> None:
        """Send a request of the enrollment worker."""
        self._send(self._lifetime, request, ANSWER_SECONDS_MAX, answered, failed)

    def _send(
        self,
        lifetime: NodeLifetime,
        request: Request,
        seconds_max: float,
        answered: Callable[[Answer], None],
        failed: Callable[[Failure], None],
    ) -> None:
        failing = partial(self._failed, failed)
        timeout = int(seconds_max * SECOND)
        self._network.call(self._hostname, lifetime, request, timeout, answered, failing)

    def _failed(self, failed: Callable[[Failure], None], failure: Failure) -> None:
        """As `HttpTransport`, which tells the enrollment worker first."""
        if isinstance(failure, TransportFailed) and failure.kind in NOT_KNOWN:
            self._on_not_known()
        failed(failure)

    # The machine.

    def _checks_in(self, step: ReadHealthChecks) -> ChecksLoaded | ChecksUnreadable:
        if self._machine.checks_can_be_read(step.closure):
            return ChecksLoaded(step.rollout_id, self._checks)
        problem = "health-checks.json: $: expected an object, found a list"
        return ChecksUnreadable(step.rollout_id, problem)

    def _begin_probe(self, task: AgentTask, check: HealthCheck) -> None:
        lasts = self._rng.uniform(*PROBE_SECONDS)
        self._after(lasts, task, self._end_probe, task, check)

    def _end_probe(self, task: AgentTask, check: HealthCheck) -> None:
        if isinstance(check, TcpProbe):
            unreachable = failed(f"a connection to {SECOND_ADDRESS}", "no answer")
            task.answer(unreachable if self._machine.is_cut_off else PASSED)
            return
        outcome = self._machine.probe(check.mode)
        if outcome is None:
            # It hangs, and reports nothing until the machine runs something else.
            self._after(check.interval_seconds, task, self._begin_probe, task, check)
        else:
            task.answer(outcome)


def _answer_with_content(task: AgentTask, answer: Answer) -> None:
    if isinstance(answer, DispatchAnswer):
        task.answer(answer.dispatch)
    elif isinstance(answer, ManifestAnswer):
        task.answer(answer.artefact)
    else:
        task.answer(answer)
