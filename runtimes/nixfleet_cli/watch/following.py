"""Asks a control plane how the fleet stands, again and again, until there is nothing more to wait for.

The log wakes it: an answer of the feed comes when a row does. A control plane that gives no answer is asked again.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final, Protocol

from attrs import Factory, evolve, frozen

from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.operator_client import Refused
from nixfleet_cli.watch.ending import Ending, Until, ending_of
from nixfleet_cli.watch.hosts import Hosts, NamedHost
from nixfleet_cli.watch.reads import Reads
from nixfleet_cli.watch.watched import Watched
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST, Forecast
from nixfleet_runtime.http.listings import FEED_PAGE, ListedRow
from nixfleet_runtime.http.overview import OVERVIEW, Overview

ROUND_SECONDS: Final = 0.5
"""How long a round takes at least: a fleet in which everything happens at once costs its viewers no more."""
WAIT_SECONDS: Final = 15
AGAIN_SECONDS_MAX: Final = 10.0
FORECAST_AGE_MAX: Final = timedelta(minutes=1)


@frozen
class Look:
    """How what is watched stands, and the lines of the log since the look before. seen: the last row of them.

    forecast: of some moments ago; `None`: the control plane makes none. hosts: of rollouts that are small enough.
    """

    overview: Overview
    seen: int
    lines: tuple[ListedRow, ...] = ()
    forecast: Forecast | None = None
    hosts: Mapping[RolloutId, tuple[NamedHost, ...]] = Factory(
        dict[RolloutId, tuple[NamedHost, ...]]
    )


class Screen(Protocol):
    """Where it is shown."""

    def show(self, look: Look) -> None:
        """It stands like this now."""
        ...

    def show_silence(self, why: str) -> None:
        """The control plane gives no answer; it is asked again."""
        ...


async def follow(
    reads: Reads,
    watched: Watched,
    screen: Screen,
    until: Until | None,
    sleep: Callable[[float], Awaitable[None]],
) -> Ending:
    """Show how what is watched goes, and return how the wait for `until` ended; `None`: it never does.

    Raises: Refused; Unusable, when the control plane does not answer the first time.
    """
    hosts = Hosts(reads)
    overview = await _overview(reads, watched)
    look = Look(overview, overview.head, (), await _forecast(reads), await _hosts(hosts, overview))
    while True:
        screen.show(look)
        ending = None if until is None else ending_of(look.overview, until)
        if ending is not None:
            return ending
        look = await _next_look(reads, hosts, watched, look, screen, sleep)
        await sleep(ROUND_SECONDS)


async def _next_look(
    reads: Reads,
    hosts: Hosts,
    watched: Watched,
    before: Look,
    screen: Screen,
    sleep: Callable[[float], Awaitable[None]],
) -> Look:
    """Return the look after the next row of the log, or after a while without one."""
    seconds = 1.0
    while True:
        try:
            page = await reads.read(watched.log_path(before.seen, WAIT_SECONDS), FEED_PAGE)
            overview = await _overview(reads, watched)
            named = await _hosts(hosts, overview)
        except Unusable as error:
            screen.show_silence(error.lines[0])
            await sleep(seconds)
            seconds = min(2 * seconds, AGAIN_SECONDS_MAX)
        else:
            lines = tuple(filter(watched.has, page.events))
            forecast = before.forecast
            if forecast is None or overview.now - forecast.at >= FORECAST_AGE_MAX:
                forecast = await _forecast(reads)
            return Look(overview, page.next, lines, forecast, named)


async def _hosts(hosts: Hosts, overview: Overview) -> Mapping[RolloutId, tuple[NamedHost, ...]]:
    return {each.rollout_id: await hosts.of(each) for each in overview.rollouts}


async def _forecast(reads: Reads) -> Forecast | None:
    """Return what is to come; `None` where forecasts are off, or there is none at the moment."""
    try:
        return await reads.read(paths.FORECAST, FORECAST)
    except (Refused, Unusable):
        return None


async def _overview(reads: Reads, watched: Watched) -> Overview:
    """Return how what is watched stands: without a rollout if the one that is watched is not open yet."""
    try:
        return watched.of(await reads.read(watched.overview_path, OVERVIEW))
    except Refused as refused:
        if refused.kind != "rollout-unknown":
            raise
    everything = await reads.read(paths.OVERVIEW, OVERVIEW)
    return evolve(everything, rollouts=(), needs_you=())
