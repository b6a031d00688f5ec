"""What the demonstration is made of, piece by piece, where the whole would be too slow a test."""

import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from nixfleet_cli.demo.closures import ShopVersion, build_tree
from nixfleet_cli.demo.declaration import DeclaredHost, declaration_of, hostnames_of
from nixfleet_cli.demo.expectations import differences
from nixfleet_cli.demo.scratch import scratch_directory
from nixfleet_cli.demo.screen import screen_for
from nixfleet_cli.demo.watch import WentWrong
from nixfleet_cli.demo.web import serving
from nixfleet_cli.shared.failures import Findings
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.signing import SigningKey
from nixfleet_release import check
from nixfleet_release.check.staging import stage
from nixfleet_runtime.kernel.clock import FakeClock
from tests.cli.conftest import Invoke

NOW = datetime(2026, 5, 16, 1, 20, tzinfo=UTC)
HOSTS = ("web-01", "web-02", "web-03")
HOST = DeclaredHost("http://127.0.0.1:1/healthz", SigningKey.generate().public_key)


@pytest.fixture
def follower(database: Path) -> Iterator[Follower]:
    """A follower at the beginning of a log."""
    with closing(open_for_reading(database)) as connection:
        yield Follower(connection)


@pytest.mark.parametrize("count", range(3, 13))
def test_every_size_of_fleet_can_be_declared(count: int, tmp_path: Path) -> None:
    """Fleets of every size have three waves, begin with one canary, and lose no host."""
    hostnames = hostnames_of(count)
    file = tmp_path / "fleet.toml"
    declared_hosts = {
        hostname: DeclaredHost(HOST.health_url, SigningKey.generate().public_key)
        for hostname in hostnames
    }
    file.write_text(declaration_of(declared_hosts))

    declared = check(file).declaration

    waves = stage(declared.policies["canary-first"], declared.hosts)
    assert waves[0] == (hostnames[0],)
    assert [host for wave in waves for host in wave] == sorted(
        hostnames, key=lambda host: next(i for i, wave in enumerate(waves) if host in wave)
    )
    assert len(set(hostnames)) == count
    assert len(waves) == 3


def test_differences_name_question_expected_and_found() -> None:
    """Equal answers are no difference; other, missing and unasked ones are, each told once."""
    expected = {"web-01 runs": "shop-3", "web-02 runs": "shop-3", "rollout r1": "Terminal"}
    found = {"web-01 runs": "shop-3", "web-02 runs": "shop-1", "rollout r2": "Active"}

    assert differences(expected, found) == (
        "web-02 runs: expected shop-3, found shop-1",
        "rollout r1: expected Terminal, found nothing",
        "rollout r2: expected nothing, found Active",
    )


def test_server_answers_for_the_closure_that_is_selected(tmp_path: Path) -> None:
    """One address answers for whatever the profile leads to at the time; before there is one, with 404."""
    profile = tmp_path / "profile"
    with serving(profile) as url:
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            urllib.request.urlopen(url)
        missing.value.close()
        for version in (ShopVersion(1), ShopVersion(2, health="broken")):
            profile.unlink(missing_ok=True)
            profile.symlink_to(build_tree(tmp_path, version))
            with urllib.request.urlopen(url) as answer:
                assert answer.read().decode() == version.health_page


def test_scratch_directory_is_gone_after_success_and_interruption() -> None:
    """Neither a good end nor Ctrl-C leaves the directory behind."""
    with scratch_directory(None) as after_success:
        assert after_success.is_dir()
    with pytest.raises(KeyboardInterrupt), scratch_directory(None) as after_interruption:
        raise KeyboardInterrupt
    assert not after_success.exists()
    assert not after_interruption.exists()


def test_scratch_directory_is_kept_after_failure(tmp_path: Path) -> None:
    """Whatever failed, and however deep in task groups, is told, and the directory stays for looking at."""
    groups = ExceptionGroup("tasks", [ExceptionGroup("more", [OSError("disk full")])])
    for error, told in (
        (WentWrong(("a: expected b, found c", "d: expected e, found f")), "found c\nd: expected e"),
        (groups, "expected a story without accidents, found OSError: disk full"),
    ):
        directory = tmp_path / type(error).__name__
        with pytest.raises(Findings) as failure, scratch_directory(directory):
            raise error
        assert told in failure.value.message
        assert f"Everything is kept in {directory}" in failure.value.message
        assert "Traceback" in (directory / "demo.log").read_text()


def test_table_shows_what_each_host_does_and_why(follower: Follower) -> None:
    """On a terminal every host has a row: wave, state, what it runs, and what it waits for."""
    output = io.StringIO()
    terminal = Console(file=output, force_terminal=True, color_system=None, width=140, height=40)

    with screen_for(terminal, FakeClock(NOW), HOSTS) as screen:
        screen.begin("A chapter.")
        for applied in follower.catch_up():
            screen.show(applied)
        screen.refresh(follower.state)

    rows = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert "stable@r2 is Reverted, wave 0 of 0–1" in output.getvalue()
    assert any("web-01 0" in row and "Reverted" in row and "r1-web-01" in row for row in rows)
    waiting = "r1-web-03 rollout-halted: rollout stable@r2 is halted until an operator clears it"
    assert any("web-03 1" in row and waiting in row for row in rows)
    assert any(
        "01:17:00 web-01 Failed → Reverted: has rolled back to r1-web-01" in row for row in rows
    )


def test_lines_are_those_of_log_show(database: Path, follower: Follower, nixfleet: Invoke) -> None:
    """Without a terminal each change is printed as `nixfleet log show` prints it, however long."""
    output = io.StringIO()
    pipe = Console(file=output, force_terminal=False, width=40)

    with screen_for(pipe, FakeClock(NOW), HOSTS) as screen:
        for applied in follower.catch_up():
            screen.show(applied)

    printed = output.getvalue().splitlines()
    shown = nixfleet("log", "show", database).stdout.splitlines()
    assert len(printed) > 20
    assert set(printed) <= set(shown)
