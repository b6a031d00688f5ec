"""`nixfleet log show`: the log as a story."""

from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from nixfleet_control_plane.messages.inputs import PauseScope, RetireQuarantine
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from tests.cli.conftest import Invoke
from tests.engines.small_fleet import SmallFleet

NO_HOST = "no such host: expected one of web-01, web-02, web-03"


NO_HOST = "no such host: expected one of web-01, web-02, web-03"


def _story(result: Result) -> list[str]:
    """What each line says, without its number, time and columns of blanks."""
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()[3:]) for line in result.stdout.splitlines()]


def test_a_revert_is_told_with_its_reason_and_its_consequence(
    nixfleet: Invoke, database: Path
) -> None:
    """The story of a canary names each state it left and came to, why, and the quarantine that follows."""
    shown = nixfleet("log", "show", database, "--rollout", "stable@r2", "--host", "web-01")

    assert _story(shown) == [
        "stable@r2 planner dispatches web-01: r2-web-01, soak until 01:20:00 or later",
        "stable@r2 rollout Opening → Active: has its first host, web-01 of wave 0",
        "stable@r2 web-01 Pending → Activating: accepts the dispatch; runs r1-web-01",
        "stable@r2 web-01 starts to switch (method: directory)",
        "stable@r2 web-01 Activating → Soaking: has switched to r2-web-01",
        "stable@r2 web-01 declares its probes: alive (exec, enforce)",
        "stable@r2 web-01 fails probe alive (enforce): expected 200, found 503",
        "stable@r2 web-01 Soaking → Failed: has failed: alive failing for 60 s; policy: rollback-and-halt",
        "stable@r2 rollout Active → Failed: web-01 is Failed",
        "stable@r2 web-01 Failed → Reverted: has rolled back to r1-web-01; r2-web-01 is quarantined on stable",
        "stable@r2 rollout Failed → Reverted: web-01 is Reverted",
    ]


def test_lines_begin_with_row_and_time_in_utc(nixfleet: Invoke, database: Path) -> None:
    """Each line begins with the number of its row and when it was written."""
    lines = nixfleet("log", "show", database).stdout.splitlines()

    assert lines[0].startswith("    1  2026-05-16 01:00:00Z  -                 verifier accepts ")


def test_probes_that_say_nothing_new_are_counted_and_shown_on_request(
    nixfleet: Invoke, database: Path
) -> None:
    """Repeated results are left out, and the number of them told; `--all` has every line of the log."""
    short, whole = (nixfleet("log", "show", database, *options) for options in ((), ("--all",)))

    with closing(open_for_reading(database)) as connection:
        (lines,) = connection.execute("SELECT count(*) FROM log_lines").fetchone()
    assert len(whole.stdout.splitlines()) == lines
    left_out = lines - len(short.stdout.splitlines())
    assert left_out > 0
    assert short.stderr == f"({left_out} repeated probe results left out; --all shows them)\n"
    assert whole.stderr == ""


def test_after_shows_later_rows_only(nixfleet: Invoke, database: Path) -> None:
    """`--after` begins behind the row it names, with states as they were by then."""
    last = int(nixfleet("log", "show", database).stdout.splitlines()[-1].split()[0])

    shown = nixfleet("log", "show", database, "--after", str(last - 2))

    assert [line.split()[0] for line in shown.stdout.splitlines()] == [str(last - 1), str(last)]


def test_operators_are_told_by_name(nixfleet: Invoke, fleet: SmallFleet) -> None:
    """What an operator ordered is told as theirs, with their reason."""
    fleet.command(PauseScope(ChannelScope("stable"), "ada", "a holiday"))
    fleet.command(RetireQuarantine("stable", "r2-web-01", "ada", "it was the network"))

    shown = nixfleet("log", "show", fleet.database)

    story = _story(shown)
    assert "- ada pauses stable: a holiday" in story
    assert "- ada retires the quarantine of r2-web-01 on stable: it was the network" in story


@pytest.mark.parametrize(
    ("option", "name", "refusal"),
    [
        (
            "--host",
            "web_01",
            f'{NO_HOST}, found "web_01"; did you mean web-01?',
        ),
        (
            "--host",
            "web-99",
            f'{NO_HOST}, found "web-99"',
        ),
        (
            "--rollout",
            "stable@r9",
            'no such rollout: expected one of stable@r1, stable@r2, found "stable@r9"',
        ),
    ],
)
def test_an_unknown_filter_value_is_an_error_with_what_was_meant(
    option: str, name: str, refusal: str, nixfleet: Invoke, database: Path
) -> None:
    """A host or rollout that the log does not know is named, with the known ones and a near one."""
    shown = nixfleet("log", "show", database, option, name)

    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr == f"Error: {option}: {refusal}\n"
