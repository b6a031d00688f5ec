"""Runs workers in an agent's process: carries out their steps, and begins again the workers that fail. No decisions.

The only module of this folder that awaits, except `enrollment`.
"""

import logging
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeVar, assert_never

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from nixfleet_agent.activation.activator import Activator, PrepareOutcome
from nixfleet_agent.journal.loading import unsent_rollouts
from nixfleet_agent.messages.inputs import ChecksLoaded, ChecksUnreadable, Input, Reply
from nixfleet_agent.ports import AgentPorts
from nixfleet_agent.probes.run import run_probe
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_agent.workers.backoff import Backoff
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
from nixfleet_proto.codec import DecodeError, HealthCheckSet, decode_health_checks
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import MutatorClosed
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.storage.regular_file import read_regular_file

_log = logging.getLogger(__name__)

StepT = TypeVar("StepT")
ResultT = TypeVar("ResultT")


async def run_worker(
    work: Generator[StepT, object, ResultT], carry_out: Callable[[StepT], Awaitable[object]]
) -> ResultT:
    """Return what `work` returns, after carrying out its steps. Raises: what `work` raises."""
    try:
        step = next(work)
        while True:
            try:
                answer = await carry_out(step)
            except Exception as error:
                step = work.throw(error)
            else:
                step = work.send(answer)
    except StopIteration as end:
        result: ResultT = end.value
        return result
    finally:
        work.close()


async def wait(step: Wait, clock: Clock) -> None:
    """Carry out a `Wait`."""
    wakeup = step.wakeup
    if wakeup is None:
        assert step.seconds is not None
        await clock.sleep(step.seconds)
    elif wakeup.is_set:
        await anyio.lowlevel.checkpoint()
    else:
        with anyio.CancelScope() as waiting:
            wakeup.on_set(waiting.cancel)
            try:
                if step.seconds is None:
                    await anyio.sleep_forever()
                else:
                    await clock.sleep(step.seconds)
            finally:
                wakeup.forget(waiting.cancel)


def supervised(
    name: str, begin: Callable[[], Generator[StepT, object, None]], backoff: Backoff
) -> Generator[StepT | Wait, object, None]:
    """Do the work of `begin` until it returns; when it fails, log the failure, wait, and begin again.

    Ends when the mutator is closed: no input is accepted any more.
    """
    while True:
        try:
            yield from begin()
        except MutatorClosed:
            return
        except Exception:
            _log.exception("%s failed and begins again", name)
            yield from backoff.pause()
        else:
            return


class AgentShell:
    """Carries out steps for the workers that run in `tasks`. post: the mutator's."""

    def __init__(
        self, ports: AgentPorts, post: Callable[[Input], Awaitable[Reply]], tasks: TaskGroup
    ) -> None:
        self._ports = ports
        self._post = post
        self._tasks = tasks
        self._groups: dict[RolloutId, list[anyio.CancelScope]] = {}

    def start(self, name: str, begin: Begin) -> anyio.CancelScope:
        """Run a worker, supervised, in the background; return the scope to cancel it by."""
        scope = anyio.CancelScope()
        self._tasks.start_soon(self._run_in, scope, name, begin)
        return scope

    async def _run_in(self, scope: anyio.CancelScope, name: str, begin: Begin) -> None:
        with scope:
            await self.run(supervised(name, begin, Backoff(self._ports.chance)))

    async def run(self, work: Generator[AgentStep, object, ResultT]) -> ResultT:
        """Return what `work` returns. Raises: what `work` raises."""
        return await run_worker(work, self.carry_out)

    async def carry_out(self, step: AgentStep) -> object:
        """Return the answer to `step`. Raises: what the step names."""
        ports = self._ports
        match step:
            case Wait():
                await wait(step, ports.clock)
            case PostInput():
                return await self._post(step.input)
            case PollDispatch():
                return await ports.transport.next_dispatch(step.wait_seconds)
            case PostEvents():
                return await ports.transport.post_events(step.envelopes)
            case SendHeartbeat():
                return await ports.transport.heartbeat(step.heartbeat)
            case FetchManifest():
                return await ports.transport.fetch_manifest(step.rollout_id)
            case ReadUnsent():
                return await ports.journal.unsent(step.limit, step.leave_out)
            case ReadUnsentRollouts():
                return await unsent_rollouts(ports.journal)
            case ReadLastSeqs():
                return await ports.journal.last_seqs()
            case ReadCachedManifest():
                return await anyio.to_thread.run_sync(ports.manifests.get, step.rollout_id)
            case CacheManifest():
                put = ports.manifests.put
                await anyio.to_thread.run_sync(put, step.rollout_id, step.artefact)
            case PruneCachedManifests():
                keep_only = ports.manifests.keep_only
                await anyio.to_thread.run_sync(keep_only, step.rollout_ids)
            case ReadRunningClosure():
                return await ports.activator.current()
            case Prepare():
                return await _prepared(ports.activator, step)
            case Switch():
                intent, limit_seconds = step.intent, step.time_limit_seconds
                return await ports.activator.switch(intent.closure, limit_seconds, intent.order_id)
            case RollBack():
                return await ports.activator.rollback(step.intent.closure, step.intent.order_id)
            case AskLock():
                assert ports.lock is not None, "the engine asks only if there is one"
                return await ports.lock.ask(step.question)
            case TellAnswered():
                await ports.activator.answered()
                return None
            case ReadHealthChecks():
                return await in_abandonable_thread(partial(_declared_checks, ports.activator, step))
            case RunProbe():
                return await self._run_probe(step)
            case Start():
                self._start_in_group(step)
            case StopGroup():
                for scope in self._groups.pop(step.group, ()):
                    scope.cancel()
            case _:
                assert_never(step)
        return None

    async def _run_probe(self, step: RunProbe) -> ProbeOutcome:
        activator = self._ports.activator
        root = activator.root_of(await activator.current())
        return await run_probe(step.check, closure_root=root, evidence=self._ports.evidence)

    def _start_in_group(self, step: Start) -> None:
        scope = self.start(step.name, step.begin)
        if step.group is not None:
            self._groups.setdefault(step.group, []).append(scope)


async def _prepared(activator: Activator, step: Prepare) -> PrepareOutcome | None:
    if step.unless.is_set:
        return None
    with anyio.CancelScope() as preparing:
        step.unless.on_set(preparing.cancel)
        try:
            return await activator.prepare(step.intent.closure)
        finally:
            step.unless.forget(preparing.cancel)
    return None


def _declared_checks(
    activator: Activator, step: ReadHealthChecks
) -> ChecksLoaded | ChecksUnreadable:
    """Return the checks in the closure's file; none when there is no such file."""
    path = activator.root_of(step.closure) / HEALTH_CHECKS_PATH
    try:
        return ChecksLoaded(step.rollout_id, decode_health_checks(read_regular_file(path)))
    except FileNotFoundError:
        return ChecksLoaded(step.rollout_id, HealthCheckSet())
    except (OSError, DecodeError) as error:
        return ChecksUnreadable(step.rollout_id, f"{HEALTH_CHECKS_PATH}: {error}")
