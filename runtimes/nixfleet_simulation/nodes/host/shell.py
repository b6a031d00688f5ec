"""Runs an agent's workers in virtual time: carries out their steps with the agenda. The workers are the production's.

Does with the agenda what `nixfleet_agent.workers.shell` does with tasks, except that a worker that raises ends the
simulation instead of beginning again: it has a bug.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, assert_never

from nixfleet_agent.activation.activator import Prepared
from nixfleet_agent.journal.loading import unsent_rollouts
from nixfleet_agent.messages.inputs import (
    Action,
    ChecksLoaded,
    ChecksUnreadable,
    Input,
    Intent,
    Reply,
)
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.workers.steps import (
    AgentStep,
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
    Wait,
    Wakeup,
    Work,
)
from nixfleet_control_plane.messages.inputs import DispatchAnswer, ManifestAnswer
from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.health_check import ExecProbe, HealthCheck
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.kernel.mutator import WriteFailed
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.host.machine import SimulatedMachine
from nixfleet_simulation.nodes.memory_journal import MemoryJournal
from nixfleet_simulation.nodes.mutator import Mutator
from nixfleet_simulation.nodes.network import (
    Answer,
    AskDispatch,
    Network,
    Request,
    SendEvents,
)
from nixfleet_simulation.nodes.network import FetchManifest as FetchManifestRequest
from nixfleet_simulation.scenario.acts import Boundary
from nixfleet_simulation.scenario.randomness import Random

AgentMutator: TypeAlias = Mutator[Input, Write, Reply, Action]

ANSWER_AFTER_MAX = 30 * SECOND
"""How long an answer may take, beyond the time that a long-poll waits anyway. As in `http_transport`."""

SWITCH_METHOD = "simulated"
PROBE_SECONDS = (0.01, 0.8)
READING_SECONDS = 0.01

SILENT_LOG = logging.Logger("simulated agents", logging.CRITICAL + 1)
"""Where the workers of simulated agents log. Outside the tree of loggers, so that no configuration shows it."""


def checks_of(interval_seconds: int) -> HealthCheckSet:
    """Return the checks that every closure has: one per mode. `alive` is the enforce probe, which decides."""
    command = ("bin/alive",)
    return HealthCheckSet(
        {
            "alive": ExecProbe(command, interval_seconds=interval_seconds),
            "watched": ExecProbe(
                command, interval_seconds=interval_seconds * 2, mode=ProbeMode.OBSERVE
            ),
            "unused": ExecProbe(command, mode=ProbeMode.DISABLED),
        }
    )


class _Task:
    """A worker that runs. lifetime: of its process, or of its group if it has one."""

    __slots__ = ("_carry_out", "lifetime", "work")

    def __init__(
        self,
        work: Work,
        lifetime: NodeLifetime,
        carry_out: Callable[["_Task", AgentStep], None],
    ) -> None:
        self.work = work
        self.lifetime = lifetime
        self._carry_out = carry_out

    def begin(self) -> None:
        """Run to the first step."""
        self._run_to_next_step(partial(next, self.work))

    def answer(self, answer: object) -> None:
        """Send the answer to the last step."""
        if not self.lifetime.is_over:
            self._run_to_next_step(partial(self.work.send, answer))

    def fail(self, error: Exception) -> None:
        """Throw the failure of the last step."""
        if not self.lifetime.is_over:
            self._run_to_next_step(partial(self.work.throw, error))

    def _run_to_next_step(self, resume: Callable[[], AgentStep]) -> None:
        try:
            step = resume()
        except StopIteration:
            return
        self._carry_out(self, step)


class SimulatedShell:
    """Carries out the steps of one agent's workers.

    cached: the manifests on the host's disk. began: called with each intent when the machine begins to carry it out.
    """

    def __init__(
        self,
        hostname: str,
        agenda: Agenda,
        lifetime: NodeLifetime,
        rng: Random,
        probe_interval_seconds: int,
        machine: SimulatedMachine,
        journal: MemoryJournal,
        cached: dict[str, SignedArtefact],
        network: Network,
        mutator: AgentMutator,
        boundaries: CrashBoundaries,
        began: Callable[[Intent], None],
    ) -> None:
        self._hostname = hostname
        self._agenda = agenda
        self._lifetime = lifetime
        self._rng = rng
        self._checks = checks_of(probe_interval_seconds)
        self._machine = machine
        self._journal = journal
        self._cached = cached
        self._network = network
        self._mutator = mutator
        self._boundaries = boundaries
        self._began = began
        self._groups: dict[RolloutId, NodeLifetime] = {}
        self._tasks: list[_Task] = []

    def start(self, begin: Begin, group: RolloutId | None = None) -> None:
        """Run a worker. group: the rollout it belongs to."""
        lifetime = self._lifetime
        if group is not None:
            lifetime = self._groups.setdefault(group, NodeLifetime())
        task = _Task(begin(), lifetime, self._carry_out)
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

    def _carry_out(self, task: _Task, step: AgentStep) -> None:
        match step:
            case Wait():
                self._wait(task, step)
            case PostInput():
                self._mutator.post(step.input, task.answer, partial(self._not_written, task))
            case PollDispatch() | PostEvents() | SendHeartbeat() | FetchManifest():
                self._ask_control_plane(task, step)
            case ReadUnsent():
                task.answer(self._journal.unsent(step.limit, step.leave_out))
            case ReadUnsentRollouts():
                task.answer(unsent_rollouts(self._journal))
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
                task.answer(Prepared(step.intent.closure))
            case Switch():
                self._began(step.intent)
                self._machine.switch(task.lifetime, step.intent.closure, task.answer)
            case RollBack():
                self._began(step.intent)
                self._machine.rollback(task.lifetime, step.intent.closure, task.answer)
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
        self, seconds: float, task: _Task, happen: Callable[..., None], *arguments: object
    ) -> None:
        self._agenda.after(int(seconds * SECOND), task.lifetime, happen, *arguments)

    def _wait(self, task: _Task, step: Wait) -> None:
        waiting, wakeup = NodeLifetime(), step.wakeup
        if wakeup is not None and wakeup.is_set:
            self._after(0, task, task.answer, None)
            return
        wake = partial(self._wake, waiting, task)
        if wakeup is not None:
            wakeup.on_set(wake)
        if step.seconds is not None:
            until = int(step.seconds * SECOND)
            self._agenda.after(until, waiting, _end_wait, waiting, task, wakeup, wake)

    def _wake(self, waiting: NodeLifetime, task: _Task) -> None:
        # At the same moment, but later: the code that sets the flag is not finished. Checked here, since a generator
        # that is collected after its process died may still release a lock.
        if not task.lifetime.is_over:
            self._agenda.after(0, waiting, _end_wait, waiting, task)

    # The engine.

    def _not_written(self, task: _Task, error: Exception) -> None:
        failure = WriteFailed()
        failure.__cause__ = error
        task.fail(failure)

    # The control plane.

    def _ask_control_plane(
        self, task: _Task, step: PollDispatch | PostEvents | SendHeartbeat | FetchManifest
    ) -> None:
        match step:
            case PollDispatch():
                wait = int(step.wait_seconds * SECOND)
                self._call(task, AskDispatch(wait), wait + ANSWER_AFTER_MAX)
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

    def _call(self, task: _Task, request: Request, timeout: int = ANSWER_AFTER_MAX) -> None:
        answered = partial(_answer_with_content, task)
        self._network.call(self._hostname, task.lifetime, request, timeout, answered, task.fail)

    # The machine.

    def _checks_in(self, step: ReadHealthChecks) -> ChecksLoaded | ChecksUnreadable:
        if self._machine.checks_can_be_read(step.closure):
            return ChecksLoaded(step.rollout_id, self._checks)
        problem = "health-checks.json: $: expected an object, found a list"
        return ChecksUnreadable(step.rollout_id, problem)

    def _begin_probe(self, task: _Task, check: HealthCheck) -> None:
        lasts = self._rng.uniform(*PROBE_SECONDS)
        self._after(lasts, task, self._end_probe, task, check)

    def _end_probe(self, task: _Task, check: HealthCheck) -> None:
        outcome = self._machine.probe(check.mode)
        if outcome is None:
            # It hangs, and reports nothing until the machine runs something else.
            self._after(check.interval_seconds, task, self._begin_probe, task, check)
        else:
            task.answer(outcome)


def _end_wait(
    waiting: NodeLifetime,
    task: _Task,
    wakeup: Wakeup | None = None,
    wake: Callable[[], None] | None = None,
) -> None:
    waiting.is_over = True
    if wakeup is not None and wake is not None:
        wakeup.forget(wake)
    task.answer(None)


def _answer_with_content(task: _Task, answer: Answer) -> None:
    if isinstance(answer, DispatchAnswer):
        task.answer(answer.dispatch)
    elif isinstance(answer, ManifestAnswer):
        task.answer(answer.artefact)
    else:
        task.answer(answer)
