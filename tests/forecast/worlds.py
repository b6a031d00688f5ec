"""Simulated worlds that were lived to their end, and the databases that they leave."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.production_parts import PRODUCTION
from nixfleet_simulation.run.come_to_rest import FinalPhase
from nixfleet_simulation.run.perform_acts import ActRunner
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.generate import draw
from tests.engines.scratch import scratch_directory


@contextmanager
def world_of(seed: int, hosts: int = 4, days: float = 0.1) -> Iterator[Path]:
    """Yield the database that a drawn life leaves: with faults, operators, windows, guards and restarts."""
    scenario = draw(seed, hosts, days)
    with scratch_directory() as directory:
        world = World(scenario, directory, PRODUCTION)
        try:
            acts = ActRunner(world)
            world.begin()
            acts.schedule()
            world.agenda.run_until(int(scenario.busy_seconds * SECOND))
            FinalPhase(world, acts).run_to_rest()
            world.control_plane.disk.database()
            path = world.control_plane.disk.path
        finally:
            world.close()
        yield path
