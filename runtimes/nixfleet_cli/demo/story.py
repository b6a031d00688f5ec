"""The story of the demonstration, top to bottom: a good release, a bad one, and a better one."""

from nixfleet_cli.demo.closures import ShopVersion
from nixfleet_cli.demo.expectations import (
    Answers,
    differences,
    expected_ending,
    expected_halt,
    found_ending,
    found_halt,
)
from nixfleet_cli.demo.releases import Published, release_version
from nixfleet_cli.demo.runtimes import Runtimes
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import World
from nixfleet_control_plane.engine.state import State
from nixfleet_state_machine.rollout.state import RolloutState

GOOD = ShopVersion(1)
BAD = ShopVersion(2, health="broken, the database is out of reach")
BETTER = ShopVersion(3)


_ENDINGS = (RolloutState.TERMINAL, RolloutState.REVERTED)


async def tell(world: World, runtimes: Runtimes, watch: Watch, screen: Screen) -> None:
    """Let the story happen. Raises: WentWrong, as soon as it takes another turn than it should."""
    screen.begin("Release 1 goes to everybody in waves: a canary, a few early ones, the rest.")
    good = await _publish(world, runtimes, GOOD)
    await runtimes.meet_trouble(good, watch, screen)
    await _ends(watch, good, RolloutState.TERMINAL)

    screen.begin("Release 2 is broken. Its canary notices, goes back, and nobody else gets it.")
    bad = await _publish(world, runtimes, BAD)
    await _ends(watch, bad, RolloutState.REVERTED)
    _require(expected_halt(world), found_halt(watch.state, bad))

    screen.begin("Release 3 repairs it, takes the place of release 2, and goes to everybody.")
    better = await _publish(world, runtimes, BETTER)
    await _ends(watch, better, RolloutState.TERMINAL)
    _require(expected_ending(world, good, bad, better), await found_ending(world, watch.state))


async def _publish(world: World, runtimes: Runtimes, version: ShopVersion) -> Published:
    published = release_version(world, version)
    await runtimes.put_in_force(published.directory)
    return published


async def _ends(watch: Watch, published: Published, expected: RolloutState) -> None:
    """Return when the rollout has ended as it should. Raises: WentWrong, if it ends otherwise or not at all."""
    rollout_id = published.rollout_id

    def has_ended(state: State) -> bool:
        record = state.view.rollouts.get(rollout_id)
        return record is not None and record.state in _ENDINGS

    await watch.until(has_ended, f"{rollout_id} to end")
    found = watch.state.view.rollouts[rollout_id].state
    _require({rollout_id: expected}, {rollout_id: found})


def _require(expected: Answers, found: Answers) -> None:
    different = differences(expected, found)
    if different:
        raise WentWrong(different)
