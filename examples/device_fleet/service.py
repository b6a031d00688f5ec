"""The shell: tasks that post what the ports say, one mutator, one runner of effects. It decides nothing."""

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, assert_never

import anyio
from attrs import define, frozen

from examples.device_fleet.engine import FleetEngine
from examples.device_fleet.log import FactLog
from examples.device_fleet.model import (
    Counters,
    DeploymentName,
    Effect,
    Fact,
    Fleet,
    PublishDesiredState,
    ReportCounters,
    WithdrawDesiredState,
)
from examples.device_fleet.ports import (
    DesiredStatePublisher,
    DeviceCredential,
    DeviceRegistry,
    EnrollmentIntent,
    IdentityProvider,
    ObservedStateConsumer,
)
from examples.device_fleet.reducer import reconciled
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.mutator import SingleMutator

RETRY_SECONDS: Final = 1.0
_logger = logging.getLogger(__name__)


@frozen
class EffectRunner:
    """Carries out effects, in order, one at a time. Each is idempotent, so one that failed is simply tried again."""

    publisher: DesiredStatePublisher
    report: Callable[[DeploymentName, Counters], None]

    async def run(self, effect: Effect) -> None:
        """Carry out `effect`. Raises what the publisher raises."""
        match effect:
            case PublishDesiredState():
                await self.publisher.publish(effect.pair, effect.deployment)
            case WithdrawDesiredState():
                await self.publisher.withdraw(effect.pair)
            case ReportCounters():
                self.report(effect.name, effect.counters)
            case _:
                assert_never(effect)


@define(slots=False)
class DeviceFleet:
    """The operator's process of a device fleet."""

    log: FactLog
    registry: DeviceRegistry
    consumer: ObservedStateConsumer
    identities: IdentityProvider
    runner: EffectRunner
    clock: Clock

    def __attrs_post_init__(self) -> None:
        self._engine = FleetEngine(self.log.load())
        # Without a bound: the mutator must not wait for NATS.
        self._effects, self._due = anyio.create_memory_object_stream[Effect](math.inf)
        self._mutator = SingleMutator[Fact, Fact, Fleet, Effect](
            self._engine, self.log.append, self._effects.send_nowait, self.clock
        )

    async def post(self, fact: Fact) -> Fleet:
        """Return the fleet after `fact`, once it is durable."""
        return await self._mutator.post(fact)

    async def enroll(self, intent: EnrollmentIntent) -> DeviceCredential:
        """Return the credential of a device that joins. Raises: EnrollmentRefused."""
        credential = await self.identities.resolve(intent)
        await self.registry.register(credential)
        return credential

    async def run(self) -> None:
        """Run until cancelled. First what an earlier process decided and perhaps did not do is done."""
        for effect in reconciled(self._engine.fleet, await self.runner.publisher.published()):
            self._effects.send_nowait(effect)
        async with self._effects, self._due, anyio.create_task_group() as tasks:
            tasks.start_soon(self._mutator.run)
            tasks.start_soon(self._carry_out)
            for changes in (self.registry.changes, self.consumer.states, self.consumer.heartbeats):
                # A watch that broke begins anew with the last entry of each key, so nothing is missed.
                tasks.start_soon(self._until_it_works, partial(self._follow, changes))

    async def _carry_out(self) -> None:
        async for effect in self._due:
            await self._until_it_works(partial(self.runner.run, effect))

    async def _follow(self, changes: Callable[[], AsyncGenerator[Fact, None]]) -> None:
        async with aclosing(changes()) as facts:
            async for fact in facts:
                await self.post(fact)

    async def _until_it_works(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await work()
            except Exception:
                _logger.exception(
                    "NATS or the log failed; it is asked again in %s s", RETRY_SECONDS
                )
            await self.clock.sleep(RETRY_SECONDS)
