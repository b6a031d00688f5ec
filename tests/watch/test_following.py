"""Asking a control plane again and again: what is shown, what is asked, when it ends. The control plane is a fake."""

from collections.abc import Sequence
from typing import TypeVar

import pytest
from attrs import Factory, define, evolve

from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.operator_client import Refused
from nixfleet_cli.watch.ending import Until
from nixfleet_cli.watch.following import (
    AGAIN_SECONDS_MAX,
    FORECAST_AGE_MAX,
    ROUND_SECONDS,
    Look,
    follow,
)
from nixfleet_cli.watch.hosts import HOSTS_MAX
from nixfleet_cli.watch.watched import Watched
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.forecasts import FORECAST, Forecast
from nixfleet_runtime.http.host_pages import HOST_MAP, HostMap, MapWave
from nixfleet_runtime.http.listings import FEED_PAGE, FeedPage, ListedRow
from nixfleet_runtime.http.overview import OVERVIEW, Course, Overview
from nixfleet_state_machine.host.state import HostState
from tests.watch.samples import NOW, line, overview, rollout

pytestmark = pytest.mark.anyio
T = TypeVar("T")

GOING = overview(rollout(), head=7)
DONE = overview(rollout(Course.COMPLETE), head=9)


@define
class Answers:
    """A control plane that gives these answers, one after the other, and notes what it was asked.

    forecast: its answer to that question, which is not among the others, nor are those about hosts.
    """

    left: list[Overview | FeedPage | Exception]
    forecast: Forecast | Exception = Refused("forecasts are off", "forecast-off")
    asked: list[str] = Factory(list[str])
    forecasts_asked: int = 0
    maps_asked: list[str] = Factory(list[str])

    async def read(self, path: str, coder: Coder[T]) -> T:
        if path.endswith("/hosts") or "/hosts?" in path:
            return coder.decode(HOST_MAP.encode(self.host_map(path)))
        if path == paths.FORECAST:
            self.forecasts_asked += 1
            if isinstance(self.forecast, Exception):
                raise self.forecast
            return coder.decode(FORECAST.encode(self.forecast))
        self.asked.append(path)
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        body = FEED_PAGE.encode(answer) if isinstance(answer, FeedPage) else OVERVIEW.encode(answer)
        return coder.decode(body)

    def host_map(self, path: str) -> HostMap:
        """Two hosts, named unless the asker has their names; the first one moves on with every question."""
        self.maps_asked.append(path)
        names = None if path.endswith("?members=abc") else ("db-1", "web-01")
        states = f"{len(self.maps_asked)}0"
        waves = (MapWave(2, 0),)
        return HostMap(
            RolloutId("stable@r2"), 7, "abc", tuple(HostState), (), waves, states, "00", names
        )


@define
class Shown:
    """A screen that remembers."""

    looks: list[Look] = Factory(list[Look])
    silences: list[str] = Factory(list[str])

    def show(self, look: Look) -> None:
        self.looks.append(look)

    def show_silence(self, why: str) -> None:
        self.silences.append(why)

    @property
    def lines(self) -> list[int]:
        return [line.seq for look in self.looks for line in look.lines]


@define
class Slept:
    """How long was waited."""

    seconds: list[float] = Factory(list[float])

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def page(*events: ListedRow, seen: int, head: int = 9) -> FeedPage:
    return FeedPage(events, seen, head)


async def followed(
    answers: Sequence[Overview | FeedPage | Exception],
    watched: Watched | None = None,
    forecast: Forecast | Exception | None = None,
) -> tuple[Shown, Answers, Slept]:
    shown, control_plane, slept = Shown(), Answers(list(answers)), Slept()
    if forecast is not None:
        control_plane.forecast = forecast
    ending = await follow(control_plane, watched or Watched(), shown, Until.DONE, slept)
    assert ending.is_reached
    return shown, control_plane, slept


async def test_a_line_of_the_log_that_comes_is_shown_once_and_the_next_is_asked_for() -> None:
    shown, control_plane, slept = await followed(
        [GOING, page(line(8), seen=8), GOING, page(line(9), seen=9), DONE]
    )
    assert shown.lines == [8, 9]
    assert [path.split("?")[1] for path in control_plane.asked[1::2]] == [
        "after=7&wait=15",
        "after=8&wait=15",
    ]
    assert slept.seconds == [ROUND_SECONDS] * 2


async def test_a_rollout_that_is_complete_at_once_is_shown_and_waited_for_no_longer() -> None:
    shown, control_plane, _ = await followed([DONE])
    assert [look.overview for look in shown.looks] == [DONE]
    assert control_plane.asked == ["/v1/overview"]


async def test_a_control_plane_that_is_silent_is_asked_again_and_no_line_is_lost() -> None:
    """Its page of the log had come, the overview had not: the lines come with the next answer."""
    silent = Unusable("no answer from https://cp:8443")
    shown, _, slept = await followed(
        [GOING, page(line(8), seen=8), silent, page(line(8), seen=8), DONE]
    )
    assert shown.silences == ["no answer from https://cp:8443"]
    assert shown.lines == [8]
    assert len(shown.looks) == 2
    assert slept.seconds == [1.0, ROUND_SECONDS]


async def test_a_control_plane_that_stays_silent_is_asked_ever_more_seldom() -> None:
    silent = Unusable("no answer")
    _, _, slept = await followed([GOING, *[silent] * 6, page(seen=8), DONE])
    assert slept.seconds == [
        1.0,
        2.0,
        4.0,
        8.0,
        AGAIN_SECONDS_MAX,
        AGAIN_SECONDS_MAX,
        ROUND_SECONDS,
    ]


async def test_a_control_plane_that_does_not_answer_at_first_is_an_error() -> None:
    with pytest.raises(Unusable, match="no answer"):
        await followed([Unusable("no answer")])


async def test_a_rollout_that_is_not_open_yet_is_waited_for() -> None:
    """A build server asks for the rollout that it has just published."""
    unknown = Refused("The rollout is unknown", "rollout-unknown")
    shown, control_plane, _ = await followed(
        [unknown, GOING, page(seen=8), DONE], Watched("stable@r3")
    )
    assert [len(look.overview.rollouts) for look in shown.looks] == [0, 1]
    assert control_plane.asked[1] == "/v1/overview"


async def test_a_forecast_is_asked_for_again_when_it_is_a_minute_old() -> None:
    forecast = Forecast(7, NOW, 60, ())
    later = evolve(GOING, now=NOW + FORECAST_AGE_MAX)
    shown, control_plane, _ = await followed(
        [GOING, page(seen=8), GOING, page(seen=8), later, page(seen=9), DONE], forecast=forecast
    )
    assert control_plane.forecasts_asked == 2
    assert [look.forecast for look in shown.looks] == [forecast] * 4


async def test_a_control_plane_that_makes_no_forecast_is_followed_without() -> None:
    shown, _, _ = await followed(
        [GOING, page(seen=8), DONE], forecast=Unusable("none at the moment")
    )
    assert [look.forecast for look in shown.looks] == [None, None]


async def test_hosts_are_asked_for_with_their_names_once() -> None:
    shown, control_plane, _ = await followed([GOING, page(seen=8), GOING, page(seen=9), DONE])
    assert control_plane.maps_asked == [
        "/v1/rollouts/stable@r2/hosts",
        *["/v1/rollouts/stable@r2/hosts?members=abc"] * 2,
    ]
    first, second, third = (look.hosts[RolloutId("stable@r2")][0] for look in shown.looks)
    assert [first.name, second.name, third.name] == ["db-1"] * 3
    assert len({first.state, second.state, third.state}) == 3


async def test_hosts_of_a_great_rollout_are_not_asked_for() -> None:
    _, control_plane, _ = await followed([overview(rollout(Course.COMPLETE, hosts=HOSTS_MAX + 1))])
    assert control_plane.maps_asked == []


async def test_a_refusal_ends_the_watch() -> None:
    with pytest.raises(Refused, match="your key"):
        await followed([GOING, Refused("your key is unknown", "unknown-key")])


async def test_a_channel_is_watched_without_the_rollouts_and_lines_of_others() -> None:
    both = overview(rollout(), rollout(Course.HALTED, "edge@r2"))
    done = overview(rollout(Course.COMPLETE), rollout(Course.HALTED, "edge@r2"))
    lines = (line(8), line(9, rollout_id="edge@r2"), line(10, rollout_id="stable-2@r1"))
    shown, _, _ = await followed([both, page(*lines, seen=10), done], Watched("stable"))
    assert [[it.channel for it in look.overview.rollouts] for look in shown.looks] == [
        ["stable"]
    ] * 2
    assert shown.lines == [8]


async def test_a_rollout_is_asked_for_by_its_name() -> None:
    _, control_plane, _ = await followed([GOING, page(seen=9), DONE], Watched("stable@a/b"))
    assert control_plane.asked == [
        "/v1/overview?rollout=stable%40a%2Fb",
        "/v1/log?after=7&wait=15&rollout=stable%40a%2Fb",
        "/v1/overview?rollout=stable%40a%2Fb",
    ]
