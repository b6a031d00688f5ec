"""Reads a closure's health checks, and runs them, each at its interval, until told to stop.

One task group per rollout: stopping a rollout's probes takes their running commands down with them.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, assert_never

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from nixfleet_agent.activation.activator import Activator
from nixfleet_agent.messages.inputs import (
    ChecksLoaded,
    ChecksUnreadable,
    Input,
    LoadChecks,
    ProbeRan,
    StartProbes,
    StopProbes,
)
from nixfleet_agent.probes.evidence import EvidenceReader
from nixfleet_agent.probes.run import run_probe
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.posting import Post, TryOnce
from nixfleet_agent.workers.supervision import supervised
from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import DecodeError, HealthCheckSet, decode_health_checks
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH, HealthCheck
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.clock import Clock

Order: TypeAlias = LoadChecks | StartProbes | StopProbes


class ProbeWorker:
    """The probes of all open rollouts.

    try_once: for results, which the next run brings again. evidence: see `run_probe`.
    """

    def __init__(
        self,
        activator: Activator,
        clock: Clock,
        interval_seconds_min: float,
        post: Post,
        try_once: TryOnce,
        evidence: EvidenceReader | None = None,
    ) -> None:
        self._activator = activator
        self._clock = clock
        self._interval_seconds_min = interval_seconds_min
        self._post = post
        self._try_once = try_once
        self._evidence = evidence
        # Without a bound: a batch of inputs may order any number at once, and none may be lost.
        self._orders = deque[Order]()
        self._woken = anyio.Event()
        self._scopes: dict[RolloutId, anyio.CancelScope] = {}

    def order(self, order: Order) -> None:
        """Do this after the orders before it."""
        self._orders.append(order)
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                while self._orders:
                    self._follow(tasks, self._orders.popleft())
                self._woken = anyio.Event()
                await self._woken.wait()

    def _follow(self, tasks: TaskGroup, order: Order) -> None:
        match order:
            case LoadChecks():
                self._begin(tasks, "reading health checks", partial(self._load, order))
            case StartProbes():
                self._stop(order.rollout_id)
                self._start(tasks, order)
            case StopProbes():
                self._stop(order.rollout_id)
            case _:
                assert_never(order)

    def _begin(self, tasks: TaskGroup, name: str, work: Callable[[], Awaitable[None]]) -> None:
        tasks.start_soon(supervised, name, work, Backoff(self._clock))

    async def _load(self, order: LoadChecks) -> None:
        await self._post(await anyio.to_thread.run_sync(self._loaded, order))

    def _loaded(self, order: LoadChecks) -> Input:
        path = self._activator.root_of(order.closure) / HEALTH_CHECKS_PATH
        try:
            return ChecksLoaded(order.rollout_id, decode_health_checks(path.read_bytes()))
        except FileNotFoundError:
            return ChecksLoaded(order.rollout_id, HealthCheckSet())
        except (OSError, DecodeError) as error:
            return ChecksUnreadable(order.rollout_id, f"{HEALTH_CHECKS_PATH}: {error}")

    def _start(self, tasks: TaskGroup, order: StartProbes) -> None:
        scope = anyio.CancelScope()
        self._scopes[order.rollout_id] = scope
        tasks.start_soon(self._run_all, order, scope)

    def _stop(self, rollout_id: RolloutId) -> None:
        scope = self._scopes.pop(rollout_id, None)
        if scope is not None:
            scope.cancel()

    async def _run_all(self, order: StartProbes, scope: anyio.CancelScope) -> None:
        with scope:
            async with anyio.create_task_group() as probes:
                for name, check in order.checks.items():
                    if check.mode is not ProbeMode.DISABLED:
                        run = partial(self._run, order.rollout_id, name, check)
                        self._begin(probes, f"probe {name}", run)

    async def _run(self, rollout_id: RolloutId, name: str, check: HealthCheck) -> None:
        while True:
            root = self._activator.root_of(await self._activator.current())
            outcome = await run_probe(check, closure_root=root, evidence=self._evidence)
            reply = await self._try_once(ProbeRan(rollout_id, name, outcome))
            if check.run_once and reply is not None:
                return
            await self._clock.sleep(max(check.interval_seconds, self._interval_seconds_min))
