"""An embedder's own world and applier: a rollout of one host, without a machine.

Forget an arm, and the type checker names it; add one for the control plane's, and it objects too.
"""

from datetime import UTC, datetime, timedelta
from typing import assert_never

from attrs import define, field

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine import AgentEffect, HostRolloutState, Local, step
from nixfleet_state_machine.host.effect import (
    EmitLog,
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    RecordTransition,
)


@define
class World:
    """What a real applier has a machine, a network and a disk for."""

    running: str
    sent: list[AgentEvent] = field(factory=list)


def apply(effect: AgentEffect, world: World) -> None:
    match effect:
        case LocalEmitEvent():
            world.sent.append(effect.payload)
        case LocalFireSwitch():
            world.running = effect.target
        case LocalFireRollbackTo():
            world.running = effect.closure
        case RecordTransition():
            print(f"{effect.at:%H:%M} {effect.host}: {effect.from_} -> {effect.to}")
        case LocalResetProbeCache() | EmitMetric() | EmitLog():
            pass  # Nothing is probed, counted or logged here.
        case _:
            assert_never(effect)


def main() -> None:
    world = World(running="old")
    at = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
    soaked = at + timedelta(minutes=10)
    record = HostRolloutState.pending(
        RolloutId("stable@a1b2c3"), "web-01", "stable", "new", at, soaked
    )
    for happened in (
        lambda: DispatchAck(world.running, at, seq=1),
        lambda: ActivationCompleted(world.running, 0, at, seq=2),
        lambda: ProbeResult("alive", ProbeMode.ENFORCE, ProbeStatus.PASS, at, seq=3),
        lambda: Converged(soaked, world.running, seq=4),
    ):
        record, effects = step(record, Local(happened()), at, RolloutPolicy())
        for effect in effects:
            apply(effect, world)
    print(f"{len(world.sent)} facts sent; {record.hostname} runs {world.running!r}")


if __name__ == "__main__":
    main()
