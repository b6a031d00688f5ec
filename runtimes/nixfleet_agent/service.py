"""The agent's shell: the mutator and the workers around it. The only `await`s of this side.

Every worker does one thing and posts what came of it as an input; none decides. They share nothing but the
mutator. The agent starts and does its work with the control plane down: what it has to say waits in the
journal.
Source: design 7, Agent.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import assert_never

import anyio
import anyio.to_thread

from nixfleet_agent.engine import AgentEngine
from nixfleet_agent.inputs import (
    Action,
    Booted,
    CarryOut,
    Input,
    LoadChecks,
    Reply,
    RunningClosureSeen,
    StartProbes,
    StopProbes,
    Tick,
    WakeSender,
)
from nixfleet_agent.loading import load_state
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.dispatches import DispatchWorker
from nixfleet_agent.workers.heartbeats import HeartbeatWorker
from nixfleet_agent.workers.intents import IntentWorker
from nixfleet_agent.workers.probes import ProbeWorker
from nixfleet_agent.workers.sender import Sender
from nixfleet_agent.writes import Write
from nixfleet_runtime.mutator import SingleMutator
from nixfleet_state_machine.effect import EmitLog, EmitMetric

_log = logging.getLogger(__name__)


class AgentService:
    """One running agent. Make it with `running`."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts, engine: AgentEngine) -> None:
        self._settings = settings
        self._ports = ports
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            engine, ports.journal.commit, self._carry_out, ports.clock
        )
        post = self._mutator.post
        self._intents = IntentWorker(ports.activator, post)
        self._sender = Sender(settings.hostname, ports.journal, ports.transport, ports.clock, post)
        self._probes = ProbeWorker(
            ports.activator, ports.clock, settings.probe_interval_seconds_min, post
        )
        self._dispatches = DispatchWorker(settings, ports, post)
        self._heartbeats = HeartbeatWorker(settings, ports, post)

    async def run(self) -> None:
        """Work until cancelled. What the journal had left undone is taken up first."""
        async with anyio.create_task_group() as mutating:
            mutating.start_soon(self._mutator.run)
            try:
                await self._work()
            finally:
                # What the workers posted is answered and durable before this returns.
                self._mutator.close()

    async def _work(self) -> None:
        async with anyio.create_task_group() as working:
            working.start_soon(self._intents.run)
            working.start_soon(self._probes.run)
            await self._mutator.post(Booted(await self._ports.activator.current()))
            working.start_soon(self._sender.run)
            working.start_soon(self._heartbeats.run)
            working.start_soon(self._dispatches.run)
            working.start_soon(self._tick)

    async def _tick(self) -> None:
        while True:
            await self._ports.clock.sleep(self._settings.tick_seconds)
            if not self._intents.is_busy:
                current = await self._ports.activator.current()
                await self._mutator.post(RunningClosureSeen(current))
            await self._mutator.post(Tick())

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeSender():
                self._sender.wake()
            case CarryOut():
                self._intents.add(action.intent)
            case LoadChecks() | StartProbes() | StopProbes():
                self._probes.order(action)
            case EmitMetric():
                self._ports.record_metric(action)
            case EmitLog():
                level = logging.getLevelNamesMapping()[action.level.value.upper()]
                _log.log(level, "%s: %s %s", action.target, action.message, dict(action.fields))
            case _:
                assert_never(action)


@asynccontextmanager
async def running(settings: AgentSettings, ports: AgentPorts) -> AsyncIterator[AgentService]:
    """Run an agent while the context is open. Raises: what `Journal.load` raises."""
    state = await anyio.to_thread.run_sync(load_state, ports.journal, settings.hostname)
    threshold = timedelta(seconds=settings.failure_threshold_seconds)
    service = AgentService(settings, ports, AgentEngine(state, failure_threshold=threshold))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        try:
            yield service
        finally:
            tasks.cancel_scope.cancel()
