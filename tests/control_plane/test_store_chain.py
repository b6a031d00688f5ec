"""Checking the chain: the first row that is altered, missing, re-ordered or re-hashed is named."""

from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.history.rebuild import ChainReport, check_chain
from nixfleet_control_plane.messages.log_entry import FIRST_PREV_HASH
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import INSERT_LOG
from tests.engines.scripted_host import ScriptedHost
from tests.engines.story import STEPS, Story
from tests.engines.tampering import cut, forge, knife, with_payload

ROW = 14
"""A row in the middle, with a column of each kind: the acknowledgement of a dispatch."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a database with a log of some length."""
    story = Story.within(tmp_path_factory.mktemp("chain"))
    for step in STEPS[:8]:
        step(story)
    story.control_plane.store.close()
    return story.control_plane.database.read_bytes()


@pytest.fixture
def database(made: bytes, scratch: Path) -> Path:
    path = scratch / "control-plane.sqlite"
    path.write_bytes(made)
    return path


def _report(database: Path) -> ChainReport:
    with closing(open_for_reading(database)) as connection:
        return check_chain(connection)


def _length(database: Path) -> int:
    with closing(open_for_reading(database)) as connection:
        length: int = connection.execute("SELECT count(*) FROM event_log").fetchone()[0]
    return length


def _broken_at(database: Path) -> tuple[int, int | None]:
    """Return how many rows hold, and which one does not."""
    report = _report(database)
    assert report.problem is not None, report
    return report.rows, report.broken_at


def test_a_chain_that_nobody_touched_holds_to_its_last_row(database: Path) -> None:
    """An untouched log holds as a whole, and its last hash is what the next row follows."""
    report = _report(database)
    with closing(open_for_reading(database)) as connection:
        (head,) = connection.execute("SELECT hash FROM event_log ORDER BY seq DESC LIMIT 1")

    assert report == ChainReport(_length(database), head[0])


def test_an_empty_log_holds(story: Story) -> None:
    """A log without rows is a chain of none."""

    assert _report(story.control_plane.database) == ChainReport(0, FIRST_PREV_HASH)


@pytest.mark.parametrize(
    "change",
    [
        "ts = '2026-05-16T01:00:00.000001Z'",
        "kind = 'effect'",
        "host_id = 'web-99'",
        "host_id = NULL",
        "rollout_id = 'stable@r9'",
        "rollout_id = NULL",
        "payload = replace(payload, 'release-0', 'release-9')",
        "signature = '51'",
        "signature = ''",
        "first_fact_seq = 9",
        "fact_count = 2",
        "outcome = '{}'",
        "hash = randomblob(32)",
        "prev_hash = randomblob(32)",
        "host_id = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_row_that_was_altered_is_found(database: Path, change: str) -> None:
    """A change of any column of a row breaks the chain at that row, even one that cannot be read any more."""
    cut(database, f"UPDATE event_log SET {change} WHERE seq = {ROW}")

    assert _broken_at(database) == (ROW - 1, ROW)


@pytest.mark.parametrize("seq", [1, 2, ROW])
def test_a_row_that_is_missing_is_found(database: Path, seq: int) -> None:
    """A row that was taken out is missed where it was."""
    cut(database, f"DELETE FROM event_log WHERE seq = {seq}")
    report = _report(database)

    assert (report.rows, report.broken_at) == (seq - 1, seq)
    assert report.problem == f"expected row {seq}, found row {seq + 1}: rows are missing"


def test_a_row_that_is_missing_is_found_though_the_others_close_ranks(database: Path) -> None:
    """Renumbering the rest does not hide that a row was taken out."""
    cut(
        database,
        f"DELETE FROM event_log WHERE seq = {ROW}",
        f"UPDATE event_log SET seq = seq - 1 WHERE seq > {ROW}",
    )

    assert _broken_at(database) == (ROW - 1, ROW)


def test_rows_that_changed_places_are_found(database: Path) -> None:
    """Two rows that were put in each other's place break the chain at the first."""
    cut(
        database,
        f"UPDATE event_log SET seq = -1 WHERE seq = {ROW}",
        f"UPDATE event_log SET seq = {ROW} WHERE seq = {ROW + 1}",
        f"UPDATE event_log SET seq = {ROW + 1} WHERE seq = -1",
    )

    assert _broken_at(database) == (ROW - 1, ROW)


def test_a_row_that_was_altered_and_hashed_anew_is_found_at_the_next(database: Path) -> None:
    """A row whose hash was made to fit its change is not what the next row follows."""
    made = database.read_bytes()
    forge(database, ROW, with_payload("release-0", "release-9"))
    with knife(database) as connection:
        forged = connection.execute(f"SELECT * FROM event_log WHERE seq = {ROW}").fetchone()
    database.write_bytes(made)
    with knife(database) as connection:
        connection.execute(f"DELETE FROM event_log WHERE seq = {ROW}")
        connection.execute(INSERT_LOG, forged)

    assert _broken_at(database) == (ROW, ROW + 1)


def test_a_row_that_was_put_in_is_found(database: Path) -> None:
    """A row that nobody wrote breaks the chain where it was put in."""
    cut(
        database,
        f"UPDATE event_log SET seq = -seq - 1 WHERE seq >= {ROW}",
        f"INSERT INTO event_log SELECT {ROW}, ts, kind, host_id, rollout_id, payload, signature,"
        f" first_fact_seq, fact_count, outcome, prev_hash, hash FROM event_log WHERE seq = {ROW - 1}",
        "UPDATE event_log SET seq = -seq WHERE seq < 0",
    )

    assert _broken_at(database) == (ROW - 1, ROW)


def test_of_several_breaks_the_first_is_named(database: Path) -> None:
    """Whatever comes after it, the first break is the one that is reported."""
    cut(
        database,
        "UPDATE event_log SET ts = '' WHERE seq = 11",
        "UPDATE event_log SET ts = '' WHERE seq = 5",
    )

    assert _broken_at(database) == (4, 5)


def test_rows_cut_off_the_end_change_the_last_hash(database: Path) -> None:
    """A chain that was cut short holds; who kept the hash of its end elsewhere sees that it is another."""
    whole = _report(database)
    cut(database, f"DELETE FROM event_log WHERE seq = {whole.rows}")
    rest = _report(database)

    assert (rest.rows, rest.problem) == (whole.rows - 1, None)
    assert rest.head_hash != whole.head_hash


def test_a_commit_continues_the_chain_after_a_restart(story: Story) -> None:
    """The first row after a start follows the last one before it."""
    STEPS[0](story)
    story.control_plane.restart_control_plane()
    ScriptedHost.acknowledge(story.host("stable@r1", "web-01"))

    assert _report(story.control_plane.database).problem is None
