"""The agent's shell: the mutator and the workers around it. The only `await`s of this side.

Every worker does one thing and posts what came of it as an input; none decides. They share nothing but the
mutator, and the knowledge whether the machine is being switched. One that fails begins again; the others do not
notice. The agent starts and does its work with the control plane down: what it has to say waits in the journal.
Source: docs/spec/runtimes.md, Agent.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import assert_never

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.journal.loading import load_state, unsent_rollouts
from nixfleet_agent.messages.inputs import (
    Action,
    Booted,
    CarryOut,
    Input,
    KeepManifestsOf,
    LoadChecks,
    Reply,
    RunningClosureSeen,
    StartProbes,
    StopProbes,
    Tick,
    WakeSender,
)
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.dispatches import DispatchWorker
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.intents import IntentWorker
from nixfleet_agent.workers.manifests import ManifestSource
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.probes import ProbeWorker
from nixfleet_agent.workers.sender import Sender
from nixfleet_agent.workers.supervision import supervised
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric

_log = logging.getLogger(__name__)


class AgentService:
    """One running agent. Make it with `running`."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts, engine: AgentEngine) -> None:
        self._settings = settings
        self._ports = ports
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            engine, ports.journal.commit, self._carry_out, ports.clock
        )
        self._stopping = anyio.Event()
        self._waiting_for_answers: list[Backoff] = []
        self._desk = RetryingPost(self._mutator.post, self._backoff())
        insist, try_once = self._desk.insist, self._desk.try_once
        self._manifests = ManifestSource(
            ports.transport,
            ports.manifests,
            ports.trust,
            ports.clock,
            settings.freshness_window_minutes,
        )
        self._intents = IntentWorker(ports.activator, insist, self._backoff())
        self._sender = Sender(
            settings.hostname, ports.journal, ports.transport, insist, self.backoff_for_answers()
        )
        self._probes = ProbeWorker(
            ports.activator,
            ports.clock,
            settings.probe_interval_seconds_min,
            insist,
            try_once,
            ports.evidence,
        )
        self._dispatches = DispatchWorker(
            settings, ports, self._manifests, self._intents, try_once, self.backoff_for_answers()
        )
        self._heartbeats = HeartbeatWorker(
            settings, ports, self._manifests, insist, self.backoff_for_answers()
        )

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let `run` end in order: nothing new is begun, a switch under way is given a little time to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until `stop`, or until cancelled. What the journal had left undone is taken up first.

        What the workers posted is durable when this returns, and no probe is running any more. A switch that is
        cut off is still an intent in the journal: the next start finishes it.
        Raises: NoRunningClosure, when the machine runs nothing yet.
        """
        async with anyio.create_task_group() as mutating:
            mutating.start_soon(self._mutate)
            try:
                await self._work(await self._ports.activator.current())
            finally:
                self._mutator.close()

    async def _mutate(self) -> None:
        # It ends when it is closed and drained. Cancelled, it would drop what was accepted.
        with anyio.CancelScope(shield=True):
            await self._mutator.run()

    async def _work(self, current: str) -> None:
        async with anyio.create_task_group() as acting:
            self._begin(acting, "the worker for switches", self._intents.run)
            async with anyio.create_task_group() as working:
                self._begin(working, "the worker for probes", self._probes.run)
                self._begin(working, "the keeper of manifests", self._manifests.run)
                await self._desk.insist(Booted(current))
                self._begin(working, "the sender", self._sender.run)
                self._begin(working, "the heartbeat", self._heartbeats.run)
                self._begin(working, "the poll for dispatches", self._dispatches.run)
                self._begin(working, "the tick", self._tick)
                await self._stopping.wait()
                working.cancel_scope.cancel()
            with anyio.move_on_after(self._settings.switch_grace_seconds):
                await self._intents.until_idle()
            acting.cancel_scope.cancel()

    def _begin(self, tasks: TaskGroup, name: str, work: Callable[[], Awaitable[None]]) -> None:
        tasks.start_soon(supervised, name, work, self._backoff())

    def backoff_for_answers(self) -> Backoff:
        """Return the patience of one more who asks the control plane; who gets through, gets the others through."""
        return Backoff(self._ports.clock, self._ports.chance, self._waiting_for_answers)

    def _backoff(self) -> Backoff:
        return Backoff(self._ports.clock, self._ports.chance)

    async def _tick(self) -> None:
        while True:
            await self._ports.clock.sleep(self._settings.tick_seconds)
            await self._look_at_what_runs()
            unsent = await anyio.to_thread.run_sync(unsent_rollouts, self._ports.journal)
            await self._desk.try_once(Tick(unsent))

    async def _look_at_what_runs(self) -> None:
        try:
            self._intents.at_rest.acquire_nowait()
        except anyio.WouldBlock:
            return  # It is being changed: whoever does that says what came of it.
        try:
            current = await self._ports.activator.current()
            await self._desk.try_once(RunningClosureSeen(current))
        finally:
            self._intents.at_rest.release()

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeSender():
                self._sender.wake()
            case CarryOut():
                self._intents.add(action.intent)
            case LoadChecks() | StartProbes() | StopProbes():
                self._probes.order(action)
            case KeepManifestsOf():
                self._manifests.keep_only(action.rollout_ids)
            case EmitMetric():
                self._ports.record_metric(action)
            case EmitLog():
                level = logging.getLevelNamesMapping()[action.level.value.upper()]
                _log.log(level, "%s: %s %s", action.target, action.message, dict(action.fields))
            case _:
                assert_never(action)


@asynccontextmanager
async def running(settings: AgentSettings, ports: AgentPorts) -> AsyncIterator[AgentService]:
    """Run an agent while the context is open. Raises: what `service_of` and `AgentService.run` raise."""
    service = await service_of(settings, ports)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        try:
            yield service
        finally:
            tasks.cancel_scope.cancel()


async def service_of(settings: AgentSettings, ports: AgentPorts) -> AgentService:
    """Return an agent that goes on where its journal ends, and does not run yet. Raises: what `Journal.load` raises."""
    state = await anyio.to_thread.run_sync(load_state, ports.journal, settings.hostname)
    threshold = timedelta(seconds=settings.failure_threshold_seconds)
    return AgentService(settings, ports, AgentEngine(state, failure_threshold=threshold))
