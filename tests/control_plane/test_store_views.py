"""Checking the views: rebuilt from the log they equal the stored ones, and every planted difference is found."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.history.rebuild import (
    DERIVED_VIEWS,
    ViewDifference,
    ViewsReport,
    check_chain,
    check_views,
)
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.queries import open_for_reading
from tests.engines.story import STEPS, Story, recall_another
from tests.engines.tampering import cut, forge, knife, with_payload


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows in every view, and a host record that is ahead of its copy in the cache."""
    story = Story.within(tmp_path_factory.mktemp("views"))
    for step in STEPS[:40]:
        step(story)
    story.control_plane.pause("late")
    story.control_plane.publish("r4")
    recall_another(story)
    while story.control_plane.flush():
        pass
    story.host("stable@r1", "web-02").acknowledge()
    story.control_plane.store.close()
    return story.control_plane.database


@pytest.fixture
def database(made: Path, scratch: Path) -> Path:
    return Path(shutil.copy(made, scratch))


def _report(database: Path) -> ViewsReport:
    with closing(open_for_reading(database)) as connection:
        return check_views(connection)


def _damage(database: Path) -> DamagedRow:
    """Return why the log cannot be repeated, once it is certain that its chain holds."""
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        with pytest.raises(DamagedRow) as damage:
            check_views(connection)
    return damage.value


def test_views_equal_those_rebuilt_after_any_step(story: Story) -> None:
    """Whatever happened, the stored views say what the log says."""
    for number, step in enumerate(STEPS):
        step(story)
        report = story.control_plane.check_store()

        assert (number, report.differences) == (number, ())
        assert report.entries == story.control_plane.state.head_seq


def test_a_check_changes_nothing(database: Path) -> None:
    """Checking the views leaves the database as it is."""
    before = database.read_bytes()
    _report(database)

    assert database.read_bytes() == before


def test_the_database_of_these_tests_has_rows_in_every_view(database: Path) -> None:
    """A difference is planted in a row of each view, so each needs one."""
    with closing(open_for_reading(database)) as connection:
        for table in DERIVED_VIEWS:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() > (0,), table


CHANGES = {
    "rollouts": "state = 'Terminal'",
    "probe_failures": "cleared_by_seq = 1",
    "quarantined_closures": "closure_hash = closure_hash || '!'",
    "dispatch_queue": "target_closure = 'forged'",
    "deferrals": "reason = 'because'",
    "beginnings": "began_at = '2020'",
    "holds": "source = 'operator:mallory'",
    "warrants": "rollout_id = 'x'",
    "artefacts": "event_log_seq = 1",
    "refused_events": "reason = 'because'",
    "hosts": "public_key = 'forged'",
    "token_replay": "hostname = 'mallory'",
    "revocations": "not_before = '2020'",
}


def test_every_view_has_its_change() -> None:
    """A view that is added is checked here too."""
    assert tuple(CHANGES) == DERIVED_VIEWS


@pytest.mark.parametrize(("table", "change"), CHANGES.items())
def test_a_row_that_was_changed_is_found_on_both_sides(
    database: Path, table: str, change: str
) -> None:
    """A changed row is reported as one that only the table has and one that only the log has."""
    cut(
        database,
        f"UPDATE {table} SET {change} WHERE event_log_seq = (SELECT max(event_log_seq) FROM {table})"
        if table not in ("rollouts", "quarantined_closures")
        else f"UPDATE {table} SET {change} WHERE channel = 'stable'",
    )
    differences = _report(database).differences

    assert {difference.table for difference in differences} == {table}
    assert {difference.stored for difference in differences} == {True, False}


@pytest.mark.parametrize("table", DERIVED_VIEWS)
def test_a_row_that_was_removed_is_found(database: Path, table: str) -> None:
    """Rows that the log accounts for and the table lacks are reported."""
    cut(database, f"DELETE FROM {table}")
    differences = _report(database).differences

    assert {(each.table, each.stored) for each in differences} == {(table, False)}


def test_a_row_that_was_put_in_is_found(database: Path) -> None:
    """A row that the log does not account for is reported as it stands."""
    row = ("stable", "innocent", "2026-05-16T01:00:00.000000Z", 1, None)
    with knife(database) as connection:
        connection.execute("INSERT INTO quarantined_closures VALUES (?,?,?,?,?)", row)

    assert _report(database).differences == (
        ViewDifference("quarantined_closures", row, stored=True),
    )


def test_a_cached_record_that_was_changed_is_found(database: Path) -> None:
    """A host record that claims to be as new as the log and says something else is reported."""
    cut(
        database,
        "UPDATE host_rollout_records SET record = replace(record, 'Converged', 'Soaking')"
        " WHERE record LIKE '%Converged%'",
    )

    assert {each.table for each in _report(database).differences} == {"host_rollout_records"}


def test_a_cached_record_of_nobody_is_found(database: Path) -> None:
    """A host record that no rollout accounts for is reported."""
    cut(
        database,
        "UPDATE host_rollout_records SET hostname = 'nobody' WHERE event_log_seq ="
        " (SELECT max(event_log_seq) FROM host_rollout_records)",
    )
    tables = {each.table for each in _report(database).differences}

    assert tables == {"host_rollout_records"}


def test_a_cached_record_that_is_behind_is_no_difference(database: Path) -> None:
    """A record that says it is older than the log may be."""
    cut(database, "UPDATE host_records_through SET event_log_seq = 0")

    assert _report(database).differences == ()


def test_a_cached_record_that_is_older_than_the_cache_claims_is_found(database: Path) -> None:
    """A record that is behind what the cache says it is complete to is reported: a start would trust it."""
    cut(
        database,
        "UPDATE host_records_through SET event_log_seq = (SELECT max(seq) FROM event_log)",
    )

    assert {each.table for each in _report(database).differences} == {"host_rollout_records"}


def test_a_cached_record_that_is_missing_is_no_difference(database: Path) -> None:
    """A start notices by itself that a record is missing, and reads the log."""
    cut(database, "DELETE FROM host_rollout_records WHERE hostname = 'web-01'")

    assert _report(database).differences == ()


# A log that cannot have happened, though its chain holds.


def test_a_row_of_an_unknown_kind_is_named(database: Path) -> None:
    """A row of a kind that this version does not write is named by number and kind."""
    forge(database, 3, lambda row: row._replace(kind="effect"))

    assert str(_damage(database)) == (
        "event_log row 3 (effect) cannot be read: expected a kind that this version writes, found 'effect'"
    )


def test_a_row_that_does_not_decode_is_named(database: Path) -> None:
    """A row whose payload is not what its kind asks for is named."""
    forge(database, 3, lambda row: row._replace(payload='{"kind":"OpenRollout"}'))
    damage = _damage(database)

    assert (damage.seq, damage.kind) == (3, "plan_action")


def test_a_fact_that_could_not_have_been_taken_is_named(database: Path) -> None:
    """A fact that the host's record refuses where it stands in the log is named."""
    seq = _seq_of(database, "ActivationStarted")
    forge(database, seq, with_payload("ActivationStarted", "ActivationWhatever"))
    assert _damage(database).seq == seq


def test_a_fact_with_another_number_could_not_have_been_taken(database: Path) -> None:
    """A fact whose number was changed to one that was used before is named."""
    seq = _seq_of(database, "ActivationStarted")
    forge(database, seq, with_payload('"seq":2', '"seq":1'))
    assert "expected 1 facts from 2 on, found 0" in _damage(database).problem

    forge(database, seq, lambda row: row._replace(first_fact_seq=1))
    assert "the entry does not apply" in _damage(database).problem


def test_a_row_that_repeating_does_not_give_is_named(database: Path) -> None:
    """A row in other words than this version's is named, even if it means the same."""
    forge(database, _seq_of(database, "WaveAdvanced"), _with_a_space)

    assert _damage(database).problem == "replaying the entry does not give the same row"


def test_an_event_that_changed_nothing_could_not_have_been_logged(database: Path) -> None:
    """A rollout event that leaves its record as it was is no row that this version writes."""
    seq = _seq_of(database, "HostJoined")
    forge(database, seq, _as_pause_of_nothing)

    assert _damage(database).seq == seq


def _as_pause_of_nothing(row: LogRow) -> LogRow:
    payload = row.payload.replace("HostJoined", "RolloutTerminal")
    return row._replace(payload=payload)


def _with_a_space(row: LogRow) -> LogRow:
    return row._replace(payload=row.payload.replace(",", ", ", 1))


def _seq_of(database: Path, kind: str) -> int:
    """Return the number of the first row whose payload is of `kind`."""
    with closing(open_for_reading(database)) as connection:
        seq: int = connection.execute(
            "SELECT min(event_log_seq) FROM log_lines WHERE json_extract(payload, '$.kind') = ?",
            (kind,),
        ).fetchone()[0]
    return seq
