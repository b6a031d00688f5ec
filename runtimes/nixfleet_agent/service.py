"""A running agent: the mutator and the workers around it. No decisions.

Every worker does one thing and posts its findings as inputs to the engine. Workers share the mutator, and the lock
that is held during a switch. A worker that fails begins again without affecting the others. The agent starts and
works while the control plane is down: its facts wait in the journal.
Source: docs/spec/runtimes.md, Agent.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.state import State
from nixfleet_agent.journal.loading import loaded_state
from nixfleet_agent.messages.inputs import Action, Input, Reply
from nixfleet_agent.messages.writes import Write
from nixfleet_agent.narration import Line, Narrator, bounded
from nixfleet_agent.ports import AgentPorts, AgentSettings
from nixfleet_agent.workers.assembly import Workers
from nixfleet_agent.workers.shell import AgentShell
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric, LogLevel

_log = logging.getLogger(__name__)


class AgentService:
    """One running agent. Make it with `running` or `service_of`."""

    def __init__(
        self, settings: AgentSettings, ports: AgentPorts, state: State, narrator: Narrator
    ) -> None:
        self._settings = settings
        self._state = state
        self._narrator = narrator
        self._ports = ports
        self._mutator = SingleMutator[Input, Write, Reply, Action](
            _engine_of(state, settings, has_lock=ports.lock is not None),
            self._commit,
            self._carry_out,
            ports.clock,
            on_batch=ports.on_batch,
            write_seconds_max=settings.write_seconds_max,
        )
        self._stopping = anyio.Event()
        self._trust = ports.trust
        self.workers = Workers(
            settings,
            ports.activator.switch_method,
            ports.clock.now,
            self.trust,
            ports.chance,
        )

    def trust(self) -> TrustRoot:
        """Return the keys that are trusted now."""
        return self._trust

    def use_trust(self, trust: TrustRoot) -> None:
        """Verify manifests and tokens by another trust root from now on."""
        self._trust = trust

    def status_line(self) -> str:
        """Return in one line what the host runs and what it should."""
        running = f"runs {self._state.running_closure.get() or 'something unknown'}"
        rollouts = (
            f"{it.record.rollout_id} is {it.record.state}" for it in self._state.open_rollouts()
        )
        return "; ".join((running, *rollouts))

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End `run` in order: nothing new begins, and a switch under way gets `switch_grace_seconds` to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop` or cancellation; unfinished intents of the journal are carried out first.

        When this returns, every posted input is durable and no probe is running. A switch that was interrupted is
        still an intent in the journal: the next start finishes it.
        Raises: NoRunningClosure, when the machine has no running closure yet.
        """
        _say(self._narrator.beginning())
        async with anyio.create_task_group() as mutating:
            mutating.start_soon(self._mutate)
            try:
                await self._work(await self._ports.activator.current())
            finally:
                self._mutator.close()

    async def _mutate(self) -> None:
        # Ends when it is closed and drained. Cancelled, it would drop accepted inputs.
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

    async def _commit(self, writes: Sequence[Write]) -> None:
        await self._ports.journal.commit(writes)
        # Only now: what could not be written did not happen.
        _say(self._narrator.lines(writes))

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, EmitMetric):
            self._ports.record_metric(action)
        elif isinstance(action, EmitLog):
            said = f"{action.target}: {action.message} {dict(action.fields)}"
            _log.log(_level_number(action.level), "%s", bounded(said))
        else:
            self.workers.carry_out(action)


def _say(lines: Iterable[Line]) -> None:
    for line in lines:
        _log.log(_level_number(line.level), "%s", line.text)


def _level_number(level: LogLevel) -> int:
    return logging.getLevelNamesMapping()[level.value.upper()]


@asynccontextmanager
async def running(settings: AgentSettings, ports: AgentPorts) -> AsyncIterator[AgentService]:
    """Run an agent while the context is open. Raises: the errors of `service_of` and `AgentService.run`."""
    service = await service_of(settings, ports)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        try:
            yield service
        finally:
            tasks.cancel_scope.cancel()


async def service_of(settings: AgentSettings, ports: AgentPorts) -> AgentService:
    """Return an agent with the state of its journal; it does not run yet. Raises: the errors of `Journal.load`."""
    state = await loaded_state(ports.journal, settings.hostname)
    return AgentService(settings, ports, state, Narrator(tuple(state.rollouts.values())))


def _engine_of(state: State, settings: AgentSettings, *, has_lock: bool) -> AgentEngine:
    threshold = timedelta(seconds=settings.failure_threshold_seconds)
    ask_again = timedelta(seconds=settings.ask_again_seconds) if has_lock else None
    return AgentEngine(state, Options(failure_threshold=threshold, ask_again=ask_again))
