"""The picture of a rollout in a terminal: what is on it, what is cut, and that no text gets through raw."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nixfleet_cli.commands.seeing.overview_lines import known_hosts
from nixfleet_cli.shared.output import shown_span
from nixfleet_cli.watch.following import Look
from nixfleet_cli.watch.hosts import NamedHost
from nixfleet_cli.watch.picture import Size, picture
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.forecasts import Forecast, RolloutForecast, SlowHost, Span
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.http.overview import FleetCounts, Overview
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState
from tests.watch.samples import NOW, line, need, overview, rollout, wave

R2 = RolloutId("stable@r2")


def drawn(
    answer: Overview,
    *lines: ListedRow,
    silence: str | None = None,
    forecast: Forecast | None = None,
    hosts: Mapping[RolloutId, tuple[NamedHost, ...]] | None = None,
    height: int = 40,
    width: int = 100,
) -> list[str]:
    """The picture as lines of a terminal without colours."""
    console = Console(width=width, height=height, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(
            picture(
                Look(answer, answer.head, (), forecast, hosts or {}),
                lines,
                NOW,
                silence,
                Size(width, height),
            )
        )
    return [each.rstrip() for each in capture.get().splitlines()]


def test_a_rollout_that_goes_well_is_drawn_with_its_waves_and_its_hosts_by_state() -> None:
    text = drawn(overview(rollout()), line(8))
    assert text == [
        "14:05:00 UTC · row 7 · 4 hosts enrolled · ada, operate",
        "─" * 100,
        "stable@r2 is going well: 2 of 4 hosts have converged, none failed.",
        "opened 2026-05-16 12:05 UTC, 2.0 h ago · 50 % of 4 done",
        f"wave 0  {'█' * 30}  100 %  2 of 2  done",
        f"wave 1  {'▓' * 15}{'·' * 15}    0 %  0 of 2  now",
        "█ Converged 2   ▓ Soaking 1   · Pending 1",
        "log",
        "  14:05:00  web-01 has converged",
    ]


def test_one_failed_host_of_ten_thousand_is_seen_without_colours() -> None:
    failed = wave(0, {"Converged": 9_999, "Failed": 1})
    bar = drawn(overview(rollout(waves=(failed,))))[4]
    assert bar.count("✗") == 1
    assert bar.count("█") == 29


@given(
    st.dictionaries(
        st.sampled_from(["Converged", "Soaking", "Failed", "Pending"]),
        st.integers(1, 10**5),
        min_size=1,
    )
)
def test_a_bar_has_its_width_and_a_sign_of_each_state_whatever_the_numbers(
    states: dict[str, int],
) -> None:
    bar = drawn(overview(rollout(waves=(wave(0, states),))))[4].removeprefix("wave 0  ")[:30]
    signs = {"Converged": "█", "Soaking": "▓", "Failed": "✗", "Pending": "·"}
    assert len(bar.rstrip()) == 30
    assert set(bar) == {signs[state] for state in states}


def test_what_needs_a_person_is_drawn_with_the_command_that_answers_it() -> None:
    text = drawn(overview(rollout(needs_you=(need(),)), needs=(need("A host knocks.", None),)))
    place = text.index("  stable@r2 is halted.")
    assert text[place - 1 : place + 2] == [
        "needs you",
        "  stable@r2 is halted.",
        "    nixfleet operator clear stable@r2",
    ]
    assert text[text.index("  A host knocks.") + 1] == "    Clear it."


def test_a_command_that_answers_is_not_cut_in_a_narrow_terminal() -> None:
    command = f"retire stable {'0' * 52}-shop-0"
    text = drawn(overview(rollout(needs_you=(need("x", command),))), width=40)
    assert command.replace(" ", "") in "".join(text).replace(" ", "")


def test_a_forecast_is_drawn_as_a_range_with_the_hosts_that_are_slow() -> None:
    hour = timedelta(hours=1)
    span = Span(60, NOW + hour, NOW + 2 * hour, NOW + 20 * hour)
    going_on = RolloutForecast(RolloutId("stable@r2"), RolloutState.ACTIVE, 4, 2, Span(0), span)
    slow = SlowHost(RolloutId("stable@r2"), "web-03", Stage.ACK, NOW - hour, 90)
    forecast = Forecast(7, NOW, 60, (), (going_on,), (slow,))
    text = drawn(overview(rollout()), forecast=forecast)
    assert text[4] == (
        "done between 15:05 UTC and 2026-05-17 10:05 UTC, most likely 16:05 UTC (80 of 100 of 60 runs)"
    )
    assert text[text.index("takes longer than usual") + 1].startswith("  web-03 is at ")
    assert "95 % done" not in "".join(text)


def test_a_silent_control_plane_is_said_above_what_it_said_last() -> None:
    text = drawn(overview(rollout()), silence="connection refused")
    assert text[0] == "no answer, asked again (as of 14:05:00 UTC): connection refused"
    assert text[2].startswith("stable@r2 is going well")


def test_hosts_are_named_where_all_have_room() -> None:
    hosts = {
        R2: (NamedHost("web-01", "Converged"), NamedHost("db-1", "Failed"), NamedHost("x", "New"))
    }
    text = drawn(overview(rollout()), hosts=hosts)
    assert text[text.index("hosts") + 1] == "  █ web-01  ✗ db-1    ? x"


def test_of_hosts_that_have_no_room_those_that_failed_are_named() -> None:
    hosts = {
        R2: tuple(NamedHost(f"web-{n:04}", "Failed" if n == 7 else "Pending") for n in range(900))
    }
    text = drawn(overview(rollout()), line(8), hosts=hosts, height=24)
    assert text[text.index("failed hosts") + 1 :] == [
        "  ✗ web-0007",
        "log",
        "  14:05:00  web-01 has converged",
    ]


def test_a_low_terminal_has_fewer_lines_of_the_log_and_the_latest() -> None:
    text = drawn(overview(rollout()), *(line(seq, f"row {seq}") for seq in range(20)), height=12)
    assert len(text) <= 12
    assert text[-1] == "  14:05:00  web-01 row 19"


def test_more_needs_than_have_room_are_counted() -> None:
    text = drawn(overview(rollout(needs_you=tuple(need(f"need {n}") for n in range(9)))))
    assert "  and 5 more" in text


@given(st.text())
def test_no_character_that_moves_a_terminal_gets_through(hostile: str) -> None:
    answer = overview(rollout(headline=hostile, needs_you=(need(hostile, hostile),)))
    text = drawn(answer, line(8, hostile), silence=hostile)
    assert all(each.isprintable() for each in text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (59, "59 s"), (16 * 60, "16 min"), (5400, "1.5 h"), (3 * 86400, "3 days")],
)
def test_a_span_is_said_in_its_greatest_unit(seconds: int, words: str) -> None:
    assert shown_span(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("enrolled", "declared", "words"),
    [
        (4, 0, "4 hosts enrolled"),
        (0, 6, "6 hosts with a declared key"),
        (4, 1200, "4 hosts enrolled, 1,200 with a declared key"),
        (0, 0, "0 hosts enrolled"),
    ],
)
def test_hosts_with_a_declared_key_are_known_without_an_enrollment(
    enrolled: int, declared: int, words: str
) -> None:
    assert known_hosts(FleetCounts(enrolled, 0, 0, 0, declared)) == words
