"""Fleets to forecast: the real engines and stores, in a script's own time, read as a forecast reads them."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.history.retention.log_start import log_start
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.history import History
from nixfleet_runtime.kernel.zones import SystemZones
from tests.engines.releases import Layout
from tests.engines.small_fleet import Agent, SmallFleet

TEN = tuple(f"web-{number:02}" for number in range(1, 11))
TWO_WAVES = Layout(waves=(TEN[:3], TEN[3:]))


class SlowAgent(Agent):
    """A host that takes part only every so often: its stages take their time."""

    turns = 0
    is_away = False

    @property
    def every(self) -> int:
        """In how many turns of half a minute it takes part once."""
        return 1 + int(self.hostname[-1]) % 3


class SlowFleet(SmallFleet):
    """A fleet whose hosts are of three speeds."""

    def away(self, hostname: str) -> None:
        """Let a host take no part any more."""
        agent = self.agents[hostname]
        assert isinstance(agent, SlowAgent), agent
        agent.is_away = True

    def back(self, hostname: str) -> None:
        """Let a host take part again."""
        agent = self.agents[hostname]
        assert isinstance(agent, SlowAgent), agent
        agent.is_away = False

    def made_agent(self, hostname: str, path: Path) -> Agent:
        """Return the agent of a host."""
        return SlowAgent(self, hostname, path)

    def turn(self) -> None:
        """Let each host take part when it is its turn."""
        for agent in self.agents.values():
            assert isinstance(agent, SlowAgent), agent
            agent.turns += 1
            agent.is_cut_off = agent.is_away or agent.turns % agent.every != 0
        super().turn()


def read_from(database: Path, judged: Sequence[str] = ()) -> History:
    """Return the whole log of `database`, as it was read for a forecast."""
    with closing(open_for_reading(database)) as connection:
        history = History(Replay(log_start(connection)), SystemZones(), judged)
        for row in read_log(connection):
            history.take(row)
    return history


def lived(directory: Path, layout: Layout = TWO_WAVES, releases: int = 2) -> SlowFleet:
    """Return a fleet on which some releases converged."""
    fleet = SlowFleet(directory, layout)
    for number in range(1, releases + 1):
        fleet.publish(f"r{number}")
        fleet.pass_time(minutes=30)
    return fleet
