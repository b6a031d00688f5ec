"""Artefacts in the log: a release that is signed again is not stored again, and each row is read as it was written."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.messages.entry_codec import DamagedRow, entry_of, row_of
from nixfleet_control_plane.messages.log_entry import ArtefactTaken, LogRow
from nixfleet_control_plane.store.contents import put_together, taken_apart
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, Layout
from tests.engines.tampering import cut

HOSTS = tuple(f"web-{number:03}" for number in range(60))
LAYOUT = Layout(waves=(HOSTS[:5], HOSTS[5:]), max_in_flight=3)
TIMES = 5


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose only release was signed five times."""
    with closing(ScriptedControlPlane(tmp_path, LAYOUT)) as control_plane:
        for _ in range(TIMES):
            control_plane.publish("r1")
            control_plane.wait(minutes=1)
        return control_plane.database


def _bytes(database: Path, query: str) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        return [length for (length,) in connection.execute(query)]


def _artefacts(database: Path) -> list[ArtefactTaken]:
    with closing(open_for_reading(database)) as connection:
        entries = [entry_of(row).entry for row in read_log(connection)]
    return [entry for entry in entries if isinstance(entry, ArtefactTaken)]


def test_a_release_that_is_signed_again_is_not_stored_again(database: Path) -> None:
    """What differs is in the row; hosts, waves and budgets are there once, however often they were signed."""
    rows = _bytes(
        database, "SELECT length(payload) FROM event_log WHERE kind = 'artefact_accepted'"
    )
    contents = _bytes(database, "SELECT length(text) FROM contents")
    bodies = [len(entry.body) for entry in _artefacts(database)]
    assert len(rows) == len(bodies) == 2 * TIMES
    assert max(rows) < 1_500
    assert sum(bodies[:2]) - sum(rows[:2]) < sum(contents) < sum(bodies[:2])


def test_a_row_is_read_as_it_was_written(database: Path) -> None:
    """The chain is over the whole rows, a replay gives the views, and a start has the release in force."""
    bodies = [entry.body for entry in _artefacts(database)]
    assert len(set(bodies)) == 2 * TIMES
    with closing(open_for_reading(database)) as connection:
        assert check_chain(connection).problem is None
        assert check_views(connection).differences == ()
    with closing(SqliteStore(database)) as store:
        (manifest,) = load_state(store).manifests.values()
    assert manifest.artefact.body.decode() == bodies[-1]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM contents WHERE text LIKE '%web-007%'", "is missing"),
        ("UPDATE contents SET text = replace(text, 'r1-web-007', 'evil')", "was altered"),
    ],
)
def test_a_content_that_is_not_what_it_was_is_named_with_its_row(
    database: Path, damage: str, problem: str
) -> None:
    """By a check of the chain, and by a start, which does not serve what was not signed."""
    cut(database, damage)

    with closing(open_for_reading(database)) as connection:
        report = check_chain(connection)
        with pytest.raises(DamagedRow, match=problem):
            check_views(connection)
    assert report.broken_at == 1
    assert report.problem is not None
    assert report.problem.startswith("its content ")
    assert report.problem.endswith(problem)
    with closing(SqliteStore(database)) as store, pytest.raises(DamagedRow, match=problem):
        load_state(store)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM contents",
        "UPDATE contents SET text = ''",
        "INSERT OR REPLACE INTO contents SELECT hash, '' FROM contents",
    ],
)
def test_contents_are_only_added(database: Path, statement: str) -> None:
    """As rows of the log: also a statement that replaces is refused on the connection of the store."""
    with closing(SqliteStore(database)) as store:
        connection = store._connection
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


_BODIES = st.one_of(
    st.text(),
    st.lists(st.sampled_from(['{"a":', "1", '"', ",", "}", "[", " ", "\\", "é", '"b":2'])).map(
        "".join
    ),
    st.builds(
        lambda head, long, end: f'{{"a":{head},"hosts":{long},"z":{end}}}',
        st.sampled_from(["1", '"x"', "[]", ' {"b" : 2}']),
        st.sampled_from(['"' + "é" * 300 + '"', "[" + ",".join(["12"] * 200) + "]", "0"]),
        st.sampled_from(["null", '"\\""', '"' + "y" * 400 + '"']),
    ),
)


@given(body=_BODIES)
def test_any_payload_is_put_together_as_it_was(body: str) -> None:
    """Byte for byte, whatever an artefact's text is: also one that is no object, or has spaces."""
    row = row_of(1, START, ArtefactTaken("fleet", None, body, "", "ci"))
    assert put_together(*taken_apart(row.payload)) == row.payload


def test_long_members_are_contents_and_the_others_are_text() -> None:
    """A content is a member's value by itself, which every artefact with that value shares."""
    long = '"' + "x" * 300 + '"'
    first, second = (
        taken_apart(_taken(f'{{"hosts":{long},"meta":{number}}}').payload) for number in (1, 2)
    )
    assert [*first[1].values()] == [long]
    assert first[1] == second[1]
    assert first[0] != second[0]


def _taken(body: str) -> LogRow:
    return row_of(1, START, ArtefactTaken("fleet", None, body, "", "ci"))
