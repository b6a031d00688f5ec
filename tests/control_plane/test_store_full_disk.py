"""A disk that is full at any commit: who asked is told, nothing has changed, and with room again it goes on."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.messages.inputs import Input, Reply
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.shaky_store import SmallStore
from tests.engines.story import LAYOUT, STEPS, Story

PAGE_BYTES = 512
"""Small pages, or a commit would find room in one that is there."""


class CrampedControlPlane(ScriptedControlPlane):
    """A control plane that finds its disk full at every commit, and then tries again with more room."""

    def open_store(self) -> SmallStore:
        if not self.database.exists():
            with closing(sqlite3.connect(self.database)) as connection:
                connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
                connection.execute("VACUUM")
        self.disk = SmallStore(self.database)
        self.commits_refused = 0
        return self.disk

    def ask(self, *inputs: Input) -> tuple[Reply, ...]:
        before = likeness(self.state), self.disk.load().in_memory()
        self.disk.fill_up()
        try:
            return super().ask(*inputs)
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            assert (likeness(self.state), self.disk.load().in_memory()) == before
            self.commits_refused += 1
            self.disk.make_room()
            return super().ask(*inputs)
        finally:
            self.disk.make_room()


@pytest.fixture
def cramped(scratch: Path) -> Iterator[CrampedControlPlane]:
    with closing(CrampedControlPlane(scratch, LAYOUT)) as control_plane:
        yield control_plane


def test_a_full_disk_changes_nothing_and_the_next_commit_works(
    cramped: CrampedControlPlane,
) -> None:
    """Whatever was to be written when the disk was full, nothing of it happened, and it can be asked again."""
    story = Story(cramped)
    for step in STEPS:
        step(story)

    assert cramped.commits_refused > len(STEPS)
    assert cramped.check_store().differences == ()


def test_a_life_on_a_full_disk_leaves_the_log_of_one_on_an_empty_one(
    cramped: CrampedControlPlane, scratch: Path
) -> None:
    """What was refused for want of room and asked again leaves no trace in the log."""
    roomy_directory = scratch / "roomy"
    roomy_directory.mkdir()
    with closing(Story.within(roomy_directory, cramped.ci)) as roomy:
        story = Story(cramped)
        for step in STEPS:
            step(story)
            step(roomy)

        assert cramped.log() == roomy.control_plane.log()
