"""Runs one scenario, until the fleet has settled, and returns its outcome. The only module with a file system."""

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from attrs import frozen

from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_simulation.judge.promises import Broken, Promise, PromiseBroken
from nixfleet_simulation.nodes.agenda import DAY, SECOND
from nixfleet_simulation.nodes.production_parts import PRODUCTION, Parts
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.run.come_to_rest import FinalPhase, Rest
from nixfleet_simulation.run.perform_acts import ActRunner
from nixfleet_simulation.run.world import DieAt, World
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, Boundary
from nixfleet_simulation.scenario.scenario import Scenario

SHARED_MEMORY = Path("/dev/shm")


@frozen
class Outcome:
    """The outcome of a run. broken: the first promise that broke. cpu_seconds: of this process.

    crossed: the number of boundaries that each node crossed. died_at: the boundary at which the `die_at` node died.
    """

    scenario: Scenario
    broken: PromiseBroken | None
    rest: Rest | None
    events: int
    facts: int
    checks: int
    host_days: float
    faults: Counter[str]
    rollouts: Counter[str]
    cpu_seconds: float
    trace: Trace
    crossed: dict[str, int]
    died_at: Boundary | None


def run(
    scenario: Scenario,
    parts: Parts = PRODUCTION,
    *,
    keeps_lines: bool = False,
    die_at: DieAt | None = None,
    rebuilds: bool = True,
) -> Outcome:
    """Run `scenario` until every rollout has settled, or a promise breaks.

    rebuilds: also rebuild every view from the log at the end, with the production code.
    """
    began = time.process_time()
    memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="nixfleet-simulation-", dir=memory) as directory:
        world = World(scenario, Path(directory), parts, keeps_lines=keeps_lines, die_at=die_at)
        act_runner = ActRunner(world)
        try:
            rest, broken = _live(world, act_runner, rebuilds=rebuilds), None
        except Broken as error:
            rest = None
            broken = PromiseBroken(error.promise, error.found, world.agenda.now)
            world.trace.narrate("judge", str(broken))
        finally:
            world.close()
    ledgers = (*world.checker.ended, world.checker.log)
    rollouts = [rollout for ledger in ledgers for rollout in ledger.rollouts.values()]
    return Outcome(
        scenario=scenario,
        broken=broken,
        rest=rest,
        events=world.agenda.events,
        facts=world.checker.histories.facts,
        checks=world.checker.checks,
        host_days=world.agenda.now / DAY * len(world.hosts),
        faults=act_runner.faults,
        rollouts=Counter(rollout.due.state for rollout in rollouts),
        cpu_seconds=time.process_time() - began,
        trace=world.trace,
        crossed={
            name: world.node(name).boundaries.crossed for name in (CONTROL_PLANE, *world.hosts)
        },
        died_at=None if die_at is None else world.node(die_at.node).boundaries.died_at,
    )


def _live(world: World, act_runner: ActRunner, *, rebuilds: bool) -> Rest:
    world.begin()
    act_runner.schedule()
    world.agenda.run_until(int(world.scenario.busy_seconds * SECOND))
    rest = FinalPhase(world, act_runner).run_to_rest()
    world.checker.require_history()
    control_plane = world.control_plane
    world.checker.overviews.look(
        control_plane.state, world.checker.log.rollouts, control_plane.clock.now()
    )
    world.notifier.finish()
    world.checker.deliveries.require_all()
    _require_whole_log(world, rebuilds=rebuilds)
    return rest


def _require_whole_log(world: World, *, rebuilds: bool) -> None:
    """Check the whole chain, and every view against the one that the production code rebuilds from the log."""
    world.control_plane.disk.database()
    connection = open_for_reading(world.control_plane.disk.path)
    try:
        chain = check_chain(connection)
        problem = chain.problem
        if chain.rows != world.checker.log.head:
            problem = f"expected {world.checker.log.head} rows, found {chain.rows}"
        if problem is None and rebuilds:
            differences = check_views(connection).differences
            problem = str(differences) if differences else None
    finally:
        connection.close()
    if problem is not None:
        raise Broken(Promise.VIEWS_ARE_THE_LOG, problem)
