"""`nixfleet demo` as a user runs it: a process of its own, whole, spoilt, and interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nixfleet_cli.demo.closures import NO_ROOM
from tests.cli.conftest import Invoke

SECONDS_MAX = 60.0


@contextmanager
def _demo(*options: str, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the demonstration, with `scratch` as the place for temporary files; it is not a terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "nixfleet_cli", "demo", *options],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    ) as process:
        try:
            yield process
        finally:
            # Killed, it would leave the processes that it started behind; interrupted, it ends them.
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=SECONDS_MAX)
            process.kill()


def _heed_interrupts() -> None:
    # A shell lets what it runs in the background ignore them, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"the demonstration ended without saying {words!r}")


def test_the_whole_story_is_told_and_checked(tmp_path: Path, nixfleet: Invoke) -> None:
    """All three releases end as they should, each change is a line, and what is kept can be looked at."""
    kept = tmp_path / "kept"

    with _demo("--speed", "120", "--keep", str(kept), scratch=tmp_path) as process:
        told, errors = process.communicate(timeout=SECONDS_MAX)

    assert not errors
    assert process.returncode == 0
    moments = (
        "Release 1 goes to everybody in waves",
        "stable@release-1  web-01   Pending → Activating: accepts the dispatch; runs ",
        "stable@release-1  planner  holds web-04 (disruption-budget): all 2 slots are taken",
        "stable@release-1  planner  holds web-05 (host-edge): waits for host db-01",
        "stable@release-1  rollout  Converging → Terminal: complete",
        "Release 2 is broken.",
        "stable@release-2  web-01   Soaking → Failed: has failed: shop-answers failing for ",
        "stable@release-2  planner  holds web-05 (rollout-halted)",
        "stable@release-2  web-01   Failed → Reverted: has rolled back to ",
        "Release 3 repairs it",
        "stable@release-2  rollout  Reverted → Superseded: is superseded by stable@release-3",
        "stable@release-3  rollout  Converging → Terminal: complete",
        "stable@release-2  Superseded  wave 0 of 0–2  5 Pending, 1 Reverted",
        "the hash chain holds",
        f"nixfleet status {kept}/control-plane.db",
    )
    places = [told.find(moment) for moment in moments]
    assert -1 not in places, moments[places.index(-1)]
    assert places == sorted(places)
    assert "\x1b" not in told
    assert nixfleet("log", "verify", kept / "control-plane.db").exit_code == 0
    assert nixfleet("fleet", "check", kept / "fleet.toml").exit_code == 0
    again = (
        "log",
        "backtest",
        kept / "control-plane.db",
        "--policy",
        kept / "fleet.toml",
        "--json",
    )
    value = json.loads(nixfleet(*again).stdout)
    recorded, declared = value["policies"]
    # Under the recorded policy it ends when it did, and so it does under the declared one, from which that was made.
    assert value["differing"] == []
    assert declared["rollouts"] == recorded["rollouts"]
    (check,) = (line for line in told.splitlines() if "release check" in line)
    checked = nixfleet(*check.split()[1:])
    assert checked.exit_code == 0, checked.stderr


def test_the_story_ends_the_same_in_processes_of_which_two_are_killed(tmp_path: Path) -> None:
    """A killed control plane and an agent killed in its switch start again, and the end is the same."""
    with _demo("--processes", "--speed", "120", scratch=tmp_path) as process:
        told, errors = process.communicate(timeout=2 * SECONDS_MAX)

    assert not errors
    assert process.returncode == 0, told
    moments = (
        "Release 1 goes to everybody in waves",
        "The control plane is killed, and starts again.",
        "The agent of web-02 is killed in the middle of its switch, and starts again.",
        "stable@release-1  rollout  Converging → Terminal: complete",
        "stable@release-2  web-01   Failed → Reverted: has rolled back to ",
        "stable@release-3  rollout  Converging → Terminal: complete",
        "the hash chain holds",
    )
    places = [told.find(moment) for moment in moments]
    assert -1 not in places, moments[places.index(-1)]
    assert places == sorted(places)
    assert list(tmp_path.iterdir()) == []


def test_a_story_that_goes_wrong_says_what_was_expected_and_is_kept(tmp_path: Path) -> None:
    """A host without room for its closure spoils release 1: exit code 1, what differs, and where to look."""
    with _demo("--hosts", "3", scratch=tmp_path) as process:
        _read_until(process, "web-01   Activating → Soaking")
        (directory,) = tmp_path.iterdir()
        (directory / "hosts" / "web-02" / NO_ROOM).touch()
        _, errors = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 1
    assert errors == (
        "Error: stable@release-1: expected Terminal, found Reverted\n"
        f"Everything is kept in {directory}; demo.log there may tell more.\n"
    )
    assert (directory / "control-plane.db").is_file()


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the story ends it with 130 and without a trace."""
    with _demo(scratch=tmp_path) as process:
        _read_until(process, "web-01   Activating → Soaking")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS_MAX)

    assert (process.returncode, errors) == (130, "interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("taken_by", "expected"),
    [
        ("kept/notes", "expected an empty directory, found notes in it"),
        ("kept", "kept cannot be used: File exists"),
    ],
)
def test_a_place_that_is_taken_is_refused(
    taken_by: str, expected: str, nixfleet: Invoke, tmp_path: Path
) -> None:
    """Nothing is done in a directory that is not empty, nor in the place of a file."""
    file = tmp_path / taken_by
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")

    refused = nixfleet("demo", "--keep", tmp_path / "kept")

    assert refused.exit_code == 2
    assert expected in refused.stderr
    assert file.read_text() == "mine"


@pytest.mark.parametrize("options", [("--hosts", "2"), ("--speed", "0.5"), ("--speed", "fast")])
def test_options_out_of_range_are_refused(options: tuple[str, ...], nixfleet: Invoke) -> None:
    """A fleet without three waves, and a clock that stands still, are refused."""
    refused = nixfleet("demo", *options)

    assert refused.exit_code == 2
    assert f"Invalid value for '{options[0]}'" in refused.stderr


def test_a_real_fleet_finishes_and_serves_who_comes_late(tmp_path: Path) -> None:
    """Two of thirty are off, one fails and is tolerated, one tries again; its closure is barred for nobody."""
    with _demo("--story", "real-fleet", "--speed", "30", scratch=tmp_path) as process:
        told, errors = process.communicate(timeout=SECONDS_MAX)

    assert not errors
    assert process.returncode == 0
    moments = (
        "advances from wave 0 to wave 1",
        "web-20, web-27 silent past the ack deadline, and are away",
        "Converging → Terminal: complete: every wave is done",
        "web-20 is switched on",
        "web-20   Soaking → Converged",
        "28 Converged, 1 Reverted (1 away, 1 late), 2 tried again",
        "the hash chain holds",
    )
    places = [told.find(moment) for moment in moments]
    assert -1 not in places, moments[places.index(-1)]
    assert places == sorted(places)
    assert "quarantined" not in told


def test_a_change_board_decides_when_a_release_goes_on_and_takes_one_back(tmp_path: Path) -> None:
    """A freeze, a check, two approvals, a check that fails, and a recall, each in the log by its name."""
    with _demo("--story", "change-board", "--speed", "180", scratch=tmp_path) as process:
        told, errors = process.communicate(timeout=SECONDS_MAX)

    assert not errors
    assert process.returncode == 0
    moments = (
        "ada      holds fleet:all until",
        "ends the hold of the fleet by operator:ada",
        "error-rate of wave 1: pass by metrics",
        "advances from wave 0 to wave 1",
        "approvals of wave 2: pass by ada",
        "approvals of wave 2: pass by bob",
        "advances from wave 1 to wave 2",
        "Converging → Terminal: complete: every wave is done",
        "wave 1 is broken before it began, by error-rate",
        "aborted by bob: recalled",
        "is recalled by order",
        "web-01   Failed → Reverted",
        "the hash chain holds",
    )
    places = [told.find(moment) for moment in moments]
    assert -1 not in places, moments[places.index(-1)]
    assert places == sorted(places)


@pytest.mark.parametrize("story", ["real-fleet", "change-board"])
@pytest.mark.parametrize("option", [("--hosts", "6"), ("--processes",)])
def test_the_other_stories_have_their_own_hosts_in_one_process(
    option: tuple[str, ...], story: str, nixfleet: Invoke
) -> None:
    """What does not go together is a usage error."""
    refused = nixfleet("demo", "--story", story, *option)

    assert refused.exit_code == 2
    assert "leave --hosts and --processes out" in " ".join(refused.stderr.split())
