"""Every crash point of a rollout with a rollback, and of one that is recalled.

Each node dies once at each boundary it crosses, and starts again.

Boundaries lie before, during (with and without the write surviving) and after each write, and before and after each
send. There are no other faults.
"""

from collections.abc import Iterator

from attrs import evolve, frozen

from nixfleet_proto.policy import Recall
from nixfleet_simulation.judge.promises import Broken, PromiseBroken
from nixfleet_simulation.nodes.production_parts import PRODUCTION, Parts
from nixfleet_simulation.run.run import run
from nixfleet_simulation.run.world import DieAt
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, Boundary, RecallRelease, Release
from nixfleet_simulation.scenario.closure_behaviour import ClosureBehaviour, Health
from nixfleet_simulation.scenario.scenario import Cadence, ChannelLayout, Scenario

ROLLBACK = Scenario(
    seed=1,
    channels=(ChannelLayout("stable", (("host-01",), ("host-02",)), soak_minutes=1),),
    acts=(
        Release(5, "stable", "r1"),
        Release(
            330, "stable", "r2", behaviours=(("host-01", ClosureBehaviour(health=Health.BAD)),)
        ),
    ),
    busy_seconds=600,
    cadence=Cadence(heartbeat=300, control_plane_tick=30, agent_tick=20),
)
"""A release that completes, and one whose first wave rolls back."""
RECALL = Scenario(
    seed=1,
    channels=(
        ChannelLayout(
            "stable", (("host-01",), ("host-02",)), soak_minutes=1, recall=Recall.OPERATOR
        ),
    ),
    acts=(Release(5, "stable", "r1"), RecallRelease(250, "stable", "", 7200)),
    busy_seconds=600,
    cadence=Cadence(heartbeat=60, control_plane_tick=30, agent_tick=20),
)
"""A release that completes on one host, and is taken back while the other one soaks."""
SCRIPTS = (ROLLBACK, RECALL)


@frozen
class CrashPoint:
    """A node died at a boundary and started again. broken: the promise that broke, if any."""

    die_at: DieAt
    boundary: Boundary
    broken: PromiseBroken | None


def crash_points(parts: Parts = PRODUCTION, *, every: int = 1) -> Iterator[CrashPoint]:
    """Run and yield every crash point of each script, or one in `every`.

    Raises: Broken, when a promise breaks without a crash.
    """
    for script in SCRIPTS:
        undisturbed = run(script, parts)
        if undisturbed.broken is not None:
            raise Broken(undisturbed.broken.promise, undisturbed.broken.found)
        for node in (CONTROL_PLANE, *script.hosts):
            for number in range(1, undisturbed.crossed[node] + 1, every):
                yield from _crash_points_at(script, DieAt(node, number), parts)


def _crash_points_at(script: Scenario, die_at: DieAt, parts: Parts) -> Iterator[CrashPoint]:
    outcome = run(script, parts, die_at=die_at)
    assert outcome.died_at is not None, die_at
    yield CrashPoint(die_at, outcome.died_at, outcome.broken)
    if outcome.died_at is Boundary.DURING_WRITE:
        survived = evolve(die_at, write_survives=True)
        broken = run(script, parts, die_at=survived).broken
        yield CrashPoint(survived, outcome.died_at, broken)
