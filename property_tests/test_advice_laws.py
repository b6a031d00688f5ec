"""Advice: whatever happened to a fleet, no command that a read model advises is refused."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.production_parts import PRODUCTION
from nixfleet_simulation.run.perform_acts import ActRunner
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.generate import draw
from tests.engines.advice import refused_advice
from tests.engines.scratch import scratch_directory

LOOKS = 30
ZONES = SystemZones()


@settings(max_examples=8)  # A life is drawn by its seed, and takes a second to be lived.
@given(seed=st.integers(0, 2**31), hosts=st.integers(1, 5))
def test_no_command_that_is_advised_is_refused(seed: int, hosts: int) -> None:
    """Faults, operators, guards, deadlines, quarantines, drift and restarts included."""
    scenario = draw(seed, hosts, 0.1)
    with scratch_directory() as directory:
        world = World(scenario, directory, PRODUCTION)
        try:
            acts = ActRunner(world)
            world.begin()
            acts.schedule()
            for look in range(1, LOOKS + 1):
                world.agenda.run_until(int(look * scenario.busy_seconds * SECOND / LOOKS))
                # While a commit is being written, nobody else may change the state, nor take it back.
                if world.control_plane.is_up and world.control_plane.state.undo.mark() == 0:
                    now = world.control_plane.clock.now()
                    assert refused_advice(world.control_plane.state, ZONES, now) == []
        finally:
            world.close()
