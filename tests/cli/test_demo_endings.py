"""How the demonstration judges itself: it waits with patience, and believes nothing that the files do not say."""

import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from nixfleet_cli.demo.at_rest import checked_at_rest
from nixfleet_cli.demo.screen import screen_for
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import database_in, journal_in
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.kernel.clock import FakeClock

NOW = datetime(2026, 5, 16, 1, 20, tzinfo=UTC)
HOSTS = ("web-01", "web-02", "web-03")


@pytest.fixture
def world(files: Path) -> Path:
    """The files of a fleet, laid out as the demonstration leaves its own."""
    places = {files / f"{host}.sqlite": journal_in(files, host) for host in HOSTS}
    for source, target in {files / "control-plane.sqlite": database_in(files), **places}.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    return files


def _change(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


def test_files_that_agree_are_summed_up(world: Path) -> None:
    """A log in order, with views and journals that say the same, is told with its rollouts."""
    told = checked_at_rest(world, HOSTS)

    assert "stable@r2  Reverted    wave 0 of 0–1  2 Pending, 1 Reverted" in told
    assert "the hash chain holds" in told


def test_a_view_that_differs_spoils_the_end(world: Path) -> None:
    """A stored view that is not what the log says is told."""
    _change(database_in(world), "DELETE FROM quarantined_closures")

    with pytest.raises(
        WentWrong, match="view quarantined_closures: expected the log and the table"
    ):
        checked_at_rest(world, HOSTS)


def test_an_agent_that_remembers_otherwise_spoils_the_end(world: Path) -> None:
    """An agent whose own record is not the control plane's is told by name and rollout."""
    _change(
        journal_in(world, "web-02"),
        "UPDATE rollouts SET record = json_set(record, '$.last_event_seq', 3)",
    )

    with pytest.raises(WentWrong, match="web-02 in stable@r1: expected HostRolloutState"):
        checked_at_rest(world, HOSTS)


@pytest.mark.anyio
async def test_waiting_in_vain_says_how_things_stand(database: Path) -> None:
    """When patience is at its end, what was waited for is told, and how every rollout stands."""
    lines = Console(file=io.StringIO())
    with (
        closing(open_for_reading(database)) as connection,
        screen_for(lines, FakeClock(NOW), HOSTS) as screen,
    ):
        watch = Watch(connection, screen, patience_seconds=0.3)
        with pytest.raises(WentWrong) as in_vain:
            await watch.until(lambda _: False, "the moon to be full")

    assert str(in_vain.value) == (
        "expected the moon to be full within 0.3 s, found stable@r1 Superseded, stable@r2 Reverted"
    )
