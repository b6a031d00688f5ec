"""A program's first start on a database of another program: it replays the log, and begins only if it sees the same."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.history.rebuild import check_views
from nixfleet_control_plane.history.shadow import ViewsDiffer, compare_views, derive_views_anew
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_runtime.storage.upgrade import stored_program
from nixfleet_runtime.storage.writer import bring_up_to_date
from tests.engines.story import STEPS, Story


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database that the program 1.0 wrote, with a hold, a quarantine and refused facts."""
    with closing(Story.within(tmp_path)) as story:
        for step in STEPS[:40]:
            step(story)
        story.control_plane.pause("late")
        story.control_plane.flush()
        path = story.control_plane.database
    _start(path, "1.0")
    return path


def _start(path: Path, program: str) -> None:
    bring_up_to_date(path, DATABASE_FORMAT, compare_views, program=program)


def _change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _stored(path: Path) -> str | None:
    with closing(open_for_reading(path)) as connection:
        return stored_program(connection)


def _row_added(path: Path) -> None:
    _change(path, "INSERT INTO holds VALUES ('stable', 'operator:eve', 'why', NULL, '2026', 1)")


def _row_removed(path: Path) -> None:
    _change(path, "DELETE FROM holds")


def _row_altered(path: Path) -> None:
    _change(path, "UPDATE rollouts SET record = json_set(record, '$.current_wave', 77)")


def _cache_altered(path: Path) -> None:
    _change(path, "UPDATE host_rollout_records SET last_event_seq = '77'")


def test_another_program_that_derives_the_same_views_is_stored(database: Path) -> None:
    """From then on it starts without a replay."""
    _start(database, "1.1")
    assert _stored(database) == "1.1"


@pytest.mark.parametrize(
    ("differ", "named"),
    [
        (_row_added, "holds, stored, but not in the log: .*operator:eve"),
        (_row_removed, "holds, in the log, but not stored: .*operator:ada"),
        (_row_altered, "rollouts, stored, but not in the log"),
        (_cache_altered, "host_rollout_records, stored, but not in the log"),
    ],
)
def test_another_program_that_derives_other_views_does_not_begin(
    database: Path, differ: Callable[[Path], None], named: str
) -> None:
    """The error names the first difference, how many there are, and both ways to go on. Nothing was changed."""
    differ(database)
    with pytest.raises(
        ViewsDiffer, match=rf"\d+ row\(s\) that differ, the first: {named}"
    ) as refused:
        _start(database, "1.1")
    assert f"nixfleet db upgrade --rebuild {database}" in str(refused.value)
    assert (refused.value.path, _stored(database)) == (database, "1.0")


def test_the_same_program_does_not_replay(database: Path) -> None:
    """A start costs what it did: the views are those that this program wrote itself."""
    _row_added(database)
    _start(database, "1.0")


@pytest.mark.parametrize("differ", [_row_added, _row_removed, _row_altered, _cache_altered])
def test_views_that_are_derived_anew_equal_the_log(
    database: Path, differ: Callable[[Path], None]
) -> None:
    """A copy has the views of before, each row that was replaced is named, and the next start begins."""
    differ(database)

    done = bring_up_to_date(
        database, DATABASE_FORMAT, derive_views_anew, program="1.1", always=True
    )

    assert done.copy is not None
    assert done.corrected
    with closing(open_for_reading(database)) as connection:
        assert check_views(connection).differences == ()
    with closing(open_for_reading(done.copy)) as connection:
        assert check_views(connection).differences != ()
    _start(database, "1.2")


def test_a_log_that_the_program_cannot_replay_stops_it(database: Path) -> None:
    """An entry that does not apply is named by its row."""
    _change(
        database,
        "DROP TRIGGER event_log_is_append_only_update",
        'UPDATE event_log SET payload = \'{"kind":"Unheard"}\' WHERE seq = 9',
    )
    with pytest.raises(DamagedRow, match="9"):
        _start(database, "1.1")
    assert _stored(database) == "1.0"
