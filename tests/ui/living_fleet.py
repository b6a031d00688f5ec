"""A fleet that lives while a test looks on: hosts of a served control plane, which say what the test has them say."""

from collections.abc import Callable

from attrs import Factory, define

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, Site

BEFORE = "9xq4m2b6l8s0d1f3-nixos-system-25.11"
TARGET = "k2f7nq0v1xw3c5r8-nixos-system-26.05"

HOSTILE = "<img src=x onerror=alert(1)> \x1b[31munit\x07 \u202egpj.exe\u202c ${1+1} {{2}}"
"""What a host says that wants to be markup, a terminal's orders, or to be read from right to left."""

Fact = Callable[[int], AgentEvent]


@define
class LivingFleet:
    """The hosts of one rollout. Each fact is numbered, dated now, and taken by the control plane as an agent's is."""

    site: Site
    rollout_id: RolloutId
    layout: Layout
    _told: dict[str, int] = Factory(dict)

    async def tell(self, hostname: str, *facts: Fact) -> None:
        """Have a host report these, and have them taken."""
        first = self._told.get(hostname, 0) + 1
        events = tuple(fact(first + index) for index, fact in enumerate(facts))
        self._told[hostname] = first + len(facts) - 1
        envelopes = tuple(AgentEventEnvelope(hostname, self.rollout_id, it) for it in events)
        outcome = await self.site.service.take_events(hostname, envelopes)
        assert outcome.accepted == len(facts), outcome

    async def acknowledge(self, hostname: str) -> None:
        """It has its dispatch."""
        await self.tell(hostname, lambda seq: DispatchAck(BEFORE, CLOCK.now(), seq))

    async def switch(self, hostname: str) -> None:
        """It runs its closure, and soaks."""
        await self.acknowledge(hostname)
        await self.tell(
            hostname,
            lambda seq: ActivationStarted(CLOCK.now(), "directory", seq),
            lambda seq: ActivationCompleted(self.target(hostname), 0, CLOCK.now(), seq),
        )

    async def converge(self, hostname: str) -> None:
        """It is done."""
        await self.switch(hostname)
        await self.tell(hostname, lambda seq: Converged(CLOCK.now(), self.target(hostname), seq))

    async def fail(self, hostname: str, stderr: str = "unit nginx.service failed") -> None:
        """Its switch fails, and says so in its own words."""
        await self.acknowledge(hostname)
        await self.tell(
            hostname,
            lambda seq: ActivationStarted(CLOCK.now(), "directory", seq),
            lambda seq: ActivationFailed(1, stderr, CLOCK.now(), seq),
        )

    def target(self, hostname: str) -> str:
        """What the host is to run."""
        return self.layout.closure or f"{self.rollout_id.channel_ref}-{hostname}"


async def fleet_on(site: Site, layout: Layout, channel_ref: str = "r1") -> LivingFleet:
    """Put a release for `layout` in force."""
    return LivingFleet(site, await site.publish(channel_ref, layout), layout)


def waves_of(*sizes: int) -> tuple[tuple[str, ...], ...]:
    """Return names of hosts in waves of these sizes."""
    kinds, waves, first = ("web", "db", "edge"), [], 0
    for size in sizes:
        waves.append(tuple(f"{kinds[i % 3]}-{i:05d}" for i in range(first, first + size)))
        first += size
    return tuple(waves)
