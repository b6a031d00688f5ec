"""What `nixfleet watch` prints in a pipe and for programs, and what its picture's clock is."""

import io
from datetime import timedelta

import orjson
import pytest
from attrs import evolve
from rich.console import Console

from nixfleet_cli.shared.output import Output
from nixfleet_cli.watch.following import Look
from nixfleet_cli.watch.screens import Lines, LivePicture, Objects
from nixfleet_runtime.http.overview import Course
from nixfleet_runtime.kernel.clock import FakeClock
from tests.watch.samples import NOW, line, overview, rollout

GOING = "stable@r2 is going well: 2 of 4 hosts have converged, none failed."


def printed(*looks: Look) -> list[str]:
    file = io.StringIO()
    lines = Lines(Console(file=file, width=20))
    for look in looks:
        lines.show(look)
    return file.getvalue().splitlines()


def test_a_pipe_gets_a_headline_once_and_again_when_it_changes() -> None:
    going, halted = overview(rollout()), overview(rollout(Course.HALTED))
    assert printed(Look(going, 7), Look(going, 8), Look(halted, 9)) == [
        GOING,
        "stable@r2 is halted: 2 of 4 hosts have converged, none failed.",
    ]


def test_a_pipe_gets_whole_lines_of_the_log_and_no_routine() -> None:
    routine = evolve(line(8), severity="routine")
    assert printed(Look(overview(rollout()), 9, (routine, line(9)))) == [
        "9  2026-05-16 14:05:00Z  stable@r2  web-01  has converged",
        GOING,
    ]


def test_a_pipe_is_told_once_that_there_is_no_rollout() -> None:
    assert printed(Look(overview(), 7), Look(overview(), 8)) == [
        "There is no rollout to show. One is shown once it is opened."
    ]


def test_a_program_gets_an_overview_for_each_new_row(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Objects(Output(as_json=True))
    for head in (7, 7, 8):
        screen.show(Look(overview(rollout(), head=head), head))
    objects = [orjson.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert [(each["head"], each["rollouts"][0]["course"]) for each in objects] == [
        (7, "going well"),
        (8, "going well"),
    ]


def test_a_picture_on_a_machine_whose_clock_is_off_has_the_control_planes_time_and_goes_on() -> (
    None
):
    console = Console(file=io.StringIO(), width=100, height=30)
    clock = FakeClock(NOW + timedelta(hours=3))
    screen = LivePicture(console, clock)
    screen.show(Look(overview(rollout()), 7))
    clock.advance(20)
    with console.capture() as capture:
        console.print(screen.drawn())
    assert capture.get().startswith("14:05:20 UTC")
