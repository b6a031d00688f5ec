"""A running agent: the mutator and the workers around it. No decisions.

Every worker does one thing and posts its findings as inputs to the engine. Workers share the mutator, and the lock
that is held during a switch. A worker that fails begins again without affecting the others. The agent starts and
works while the control plane is down: its facts wait in the journal.
Source: design 7, Agent.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import anyio.to_thread

from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.journal.loading import load_state
from nixfleet_agent.messages.inputs import Action, Input, Reply
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.assembly import Workers
from nixfleet_agent.workers.shell import AgentShell
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric

_log = logging.getLogger(__name__)


class AgentService:
    """One running agent. Make it with `running` or `service_of`."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts, engine: AgentEngine) -> None:
        self._settings = settings
        self._ports = ports
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            engine, ports.journal.commit, self._carry_out, ports.clock
        )
        self._stopping = anyio.Event()
        self.workers = Workers(
            settings,
            ports.activator.switch_method,
            ports.clock.now,
            lambda: ports.trust,
            ports.chance,
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
        workers = self.workers
        async with anyio.create_task_group() as acting:
            acting_shell = AgentShell(self._ports, self._mutator.post, acting)
            acting_shell.start("the worker for switches", workers.intents.run)
            async with anyio.create_task_group() as working:
                shell = AgentShell(self._ports, self._mutator.post, working)
                await shell.run(workers.boot(current))
                await self._stopping.wait()
                working.cancel_scope.cancel()
            with anyio.move_on_after(self._settings.switch_grace_seconds):
                await acting_shell.run(workers.intents.until_idle())
            acting.cancel_scope.cancel()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, EmitMetric):
            self._ports.record_metric(action)
        elif isinstance(action, EmitLog):
            level = logging.getLevelNamesMapping()[action.level.value.upper()]
            _log.log(level, "%s: %s %s", action.target, action.message, dict(action.fields))
        else:
            self.workers.carry_out(action)


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
